//! What a running CoreDNS reads: its Corefile and what that imports from ConfigMaps.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::mounts::{Mount, Origin, absolute, mount_at, origin};
use super::{COREFILE, DATA_KEY, Environment, Layer, Neighbour, Place, entries, neighbour, readable};
use crate::stub::corefile::{self, Bind, Corefile, Import, ImportKind};
use crate::stub::survey::{Key, Survey};
use crate::stub::{Refusal, RefusalKind};

/// A running CoreDNS and its files.
pub(super) struct Process<'s> {
    pub(super) survey: &'s Survey,
    pub(super) namespace: String,
    pub(super) pod: &'s PodSpec,
    pub(super) container: &'s Container,
    /// Its Corefile.
    pub(super) path: &'s str,
}

/// What a layout needs of a Corefile.
pub(super) struct Root {
    pub(super) port: u16,
    pub(super) bind: Bind,
    pub(super) imports: Vec<Import>,
}

impl Root {
    pub(super) fn read(text: &str, environment: &Environment) -> Result<Root, Refusal> {
        environment.process(|process| {
            let file = Corefile::parse(text, process)?;
            let port = file.root_port().unwrap_or(process.port);
            Ok(Root { port, bind: file.root_bind()?, imports: file.imports().to_vec() })
        })
    }
}

/// What the imports outside of all server blocks bring.
#[derive(Default)]
pub(super) struct Imported {
    pub(super) beside: Vec<Neighbour>,
    /// A key that would be imported if it existed.
    own_key: Option<(Key, String)>,
    user_file: Option<(Key, String)>,
    why: Vec<String>,
}

impl Imported {
    fn add(&mut self, other: Neighbour) {
        if !self.beside.contains(&other) {
            self.beside.push(other);
        }
    }
}

impl Process<'_> {
    /// Decides between a key of our own, a user's imported Corefile and the main one.
    pub(super) fn place(&self, main: &Key, key: &str, text: &str, layer: &mut Layer) -> Place {
        let read = Root::read(text, &layer.environment)
            .and_then(|root| Ok((self.imported(main, key, &root.imports)?, root.port, root.bind)));
        let (imported, port, bind) = match read {
            Ok(read) => read,
            Err(refusal) => return Place::Unclear(refusal),
        };
        layer.why.extend(imported.why);
        let mut beside = imported.beside;
        let this = neighbour(main, key, text);
        if let Some((config_map, key)) = imported.own_key {
            beside.insert(0, this);
            beside.retain(|other| !other.is_at(&config_map, &key));
            return Place::DataKey { config_map, key, port, bind, beside };
        }
        if let Some((config_map, key)) = imported.user_file {
            layer.why.push(format!(
                "it imports the user's Corefile of ConfigMap {}/{}",
                config_map.0, config_map.1
            ));
            beside.insert(0, this);
            beside.retain(|other| !other.is_at(&config_map, &key));
            return Place::Corefile { config_map, key, port, bind, beside };
        }
        Place::Corefile { config_map: main.clone(), key: key.to_owned(), port, bind, beside }
    }

    /// Refuses an import of what we cannot read: one of our zones might be served there.
    pub(super) fn imported(&self, main: &Key, key: &str, imports: &[Import]) -> Result<Imported, Refusal> {
        let mut found = Imported::default();
        let of_files =
            |import: &&Import| import.place == corefile::Place::Top && import.kind != ImportKind::Snippet;
        for import in imports.iter().filter(of_files) {
            let pattern = absolute(self.path, &import.argument);
            let plain = !pattern.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
            let known = match import.kind {
                _ if !plain => None,
                ImportKind::Glob => self.glob(import, &pattern, &mut found)?,
                _ => self.file(&pattern, &mut found)?,
            };
            known.ok_or_else(|| {
                Refusal::new(
                    RefusalKind::Unsure,
                    format!("ConfigMap {}/{} key {key} line {}", main.0, main.1, import.line),
                    format!(
                        "what it imports from {} is not certain to be keys of one ConfigMap",
                        import.argument
                    ),
                    "import from a directory that one ConfigMap is mounted at, or tell cluster DNS by hand: \
                     `globaldns stub-domains emit --list`",
                )
            })?;
        }
        found.beside.retain(|other| !other.is_at(main, key));
        Ok(found)
    }

    /// `None`: it cannot be told what is there.
    fn file(&self, path: &str, found: &mut Imported) -> Result<Option<()>, Refusal> {
        let Some(Mount { config_map, key: Some(key), .. }) = mount_at(self.pod, self.container, path) else {
            return Ok(None);
        };
        let config_map = self.config_map(config_map)?;
        if let Some((_, text)) = texts(self.survey, &config_map).into_iter().find(|(name, _)| *name == key) {
            found.add(neighbour(&config_map, &key, &text));
        }
        if path.ends_with(&format!("/{COREFILE}")) {
            found.user_file.get_or_insert((config_map, key));
        }
        Ok(Some(()))
    }

    /// `None`: it cannot be told what is there.
    fn glob(&self, import: &Import, pattern: &str, found: &mut Imported) -> Result<Option<()>, Refusal> {
        let Some((dir, last)) = pattern.rsplit_once('/') else { return Ok(None) };
        let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
        let Some((start, end)) = last.split_once('*') else { return Ok(None) };
        if special(dir) || special(start) || special(end) {
            return Ok(None);
        }
        let matches = |name: &str| {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        };
        // Files that are mounted there one by one.
        for mount in self.container.volume_mounts.iter().flatten() {
            let is_there =
                mount.mount_path.rsplit_once('/').is_some_and(|(of, name)| of == dir && matches(name));
            if is_there {
                let mut one = Imported::default();
                if self.file(&mount.mount_path, &mut one)?.is_none() {
                    return Ok(None);
                }
                one.beside.into_iter().for_each(|other| found.add(other));
            }
        }
        let (config_map, items, inside) = match origin(self.pod, self.container, pattern) {
            // The images of CoreDNS have no files of their own.
            Origin::Image => return Ok(Some(())),
            Origin::ConfigMap { name, items, inside, sub_path: false } => (name, items, inside),
            _ => return Ok(None),
        };
        let config_map = self.config_map(config_map)?;
        let (dir_inside, _) = inside.rsplit_once('/').unwrap_or_default();
        for (key, text) in texts(self.survey, &config_map) {
            let chosen = items.iter().flatten().filter(|item| item.key == key).map(|item| item.path.as_str());
            let mut paths = chosen.chain(items.is_none().then_some(key));
            if paths.any(|path| {
                let (of, name) = path.rsplit_once('/').unwrap_or(("", path));
                of == dir_inside && matches(name)
            }) {
                found.add(neighbour(&config_map, key, &text));
            }
        }
        // Where items choose the keys, a new key would not be mounted.
        let takes_more = items.is_none() && dir_inside.is_empty();
        if takes_more && start.is_empty() && matches!(end, ".server" | ".include") {
            found.why.push(format!(
                "line {} imports {dir}/*{end}: ConfigMap {}/{}",
                import.line, config_map.0, config_map.1
            ));
            found.own_key.get_or_insert((config_map, format!("{DATA_KEY}{end}")));
        }
        Ok(Some(()))
    }

    fn config_map(&self, name: String) -> Result<Key, Refusal> {
        let config_map = (self.namespace.clone(), name);
        readable(self.survey, &config_map)?;
        Ok(config_map)
    }
}

/// The keys of a ConfigMap as files: CoreDNS does not mind which field they are in.
fn texts<'s>(survey: &'s Survey, config_map: &Key) -> Vec<(&'s str, Cow<'s, str>)> {
    let binary = survey.config_map(config_map).and_then(|map| map.binary_data.as_ref());
    let binary =
        binary.into_iter().flatten().map(|(key, octets)| (key.as_str(), String::from_utf8_lossy(&octets.0)));
    let plain = entries(survey, config_map).into_iter().map(|(key, text)| (key, Cow::Borrowed(text)));
    plain.chain(binary).collect()
}
