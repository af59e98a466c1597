//! Which ConfigMap a path inside a container comes from.

use k8s_openapi::api::core::v1::{ConfigMapProjection, Container, KeyToPath, PodSpec};

/// A ConfigMap that is mounted.
pub(super) struct Mount {
    pub(super) config_map: String,
    /// The data key, where the path names a file; `None` where it names the directory of keys.
    pub(super) key: Option<String>,
    pub(super) sub_path: bool,
}

/// The ConfigMap mounted at, or above, a path.
pub(super) fn mount_at(pod: &PodSpec, container: &Container, path: &str) -> Option<Mount> {
    let Origin::ConfigMap { name: config_map, items, inside, sub_path } = origin(pod, container, path) else {
        return None;
    };
    let key = match items {
        _ if inside.is_empty() => None,
        Some(items) => Some(items.into_iter().find(|item| item.path == inside)?.key),
        None => Some(inside),
    };
    Some(Mount { config_map, key, sub_path })
}

/// What a path inside a container comes from. A pattern is a path whose last part has a `*`.
pub(super) enum Origin {
    /// Nothing is mounted there.
    Image,
    /// One ConfigMap: the keys that are mounted, if not all, and the path within the volume.
    ConfigMap { name: String, items: Option<Vec<KeyToPath>>, inside: String, sub_path: bool },
    /// Something else, or not certainly one.
    Unclear,
}

pub(super) fn origin(pod: &PodSpec, container: &Container, path: &str) -> Origin {
    let covers = |mount_path: &str| {
        let rest = path.strip_prefix(mount_path.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/').to_owned())
    };
    let mounts = container.volume_mounts.iter().flatten();
    let Some((mount, rest)) = mounts
        .filter_map(|mount| Some((mount, covers(&mount.mount_path)?)))
        .max_by_key(|(mount, _)| mount.mount_path.len())
    else {
        return Origin::Image;
    };
    let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name);
    let Some(volume) = volume.filter(|_| mount.sub_path_expr.is_none()) else { return Origin::Unclear };
    let parts = [mount.sub_path.clone().unwrap_or_default(), rest];
    let inside = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let (name, items) = match (&volume.config_map, &volume.projected) {
        (Some(source), _) => (source.name.clone(), source.items.clone()),
        (None, Some(projected)) => {
            let sources = projected.sources.as_deref().unwrap_or_default();
            let maps: Vec<&ConfigMapProjection> =
                sources.iter().filter_map(|s| s.config_map.as_ref()).collect();
            let names =
                |map: &&&ConfigMapProjection| map.items.iter().flatten().any(|item| item.path == inside);
            let one = match (maps.iter().find(names), &maps[..]) {
                (Some(map), _) => map,
                // Beside other sources a pattern may match what is theirs.
                (None, [only]) if sources.len() == 1 || !path.contains('*') => only,
                _ => return Origin::Unclear,
            };
            (one.name.clone(), one.items.clone())
        }
        (None, None) => return Origin::Unclear,
    };
    let items = items.filter(|items| !items.is_empty());
    Origin::ConfigMap { name, items, inside, sub_path: mount.sub_path.is_some() }
}

/// Command and arguments.
pub(super) fn arguments(container: &Container) -> Vec<String> {
    container.command.iter().chain(&container.args).flatten().cloned().collect()
}

/// The value of `-name value` or `--name=value`.
pub(super) fn flag(arguments: &[String], name: &str) -> Option<String> {
    for (position, argument) in arguments.iter().enumerate() {
        let Some(argument) = argument.strip_prefix('-') else { continue };
        let argument = argument.strip_prefix('-').unwrap_or(argument);
        match argument.strip_prefix(name) {
            Some("") => return arguments.get(position + 1).cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            _ => {}
        }
    }
    None
}

/// A path of an import, which counts from the importing file.
pub(super) fn absolute(corefile: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let dir = corefile.rsplit_once('/').map_or("", |(dir, _)| dir);
    format!("{dir}/{}", path.trim_start_matches("./"))
}
