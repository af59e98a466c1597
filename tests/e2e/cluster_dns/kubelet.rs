//! What a kubelet, and the node-cache program, do for the pods of cluster DNS: copy ConfigMaps into files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{KUBE_DNS_UPSTREAM, NODE_LOCAL, config_map};
use crate::cluster::{Cluster, code};
use crate::pod::Mount;

/// Where a node's cache finds the Corefile that [`render`] writes, and what stands for its ConfigMap.
pub(super) const RENDERED: &str = "/etc/node-cache";
pub(super) const RENDERED_MAP: &str = "rendered";

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One ConfigMap as files of one kind of pod.
#[derive(Clone)]
pub(super) struct Volume {
    /// The kind of pod.
    pub(super) of: &'static str,
    pub(super) config_map: &'static str,
    /// Key and file; all keys under their own names if empty.
    pub(super) items: Vec<(&'static str, &'static str)>,
    pub(super) mount: Mount,
}

/// Follows ConfigMaps until it is stopped.
pub(super) struct Kubelet {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    delay: AtomicU64,
}

type Files = BTreeMap<String, String>;

impl Kubelet {
    /// Writes every volume once, and again whenever its ConfigMap changes.
    pub(super) fn start(cluster: Cluster, volumes: Vec<Volume>) -> Self {
        let written = sync_once(&cluster, &volumes);
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::spawn(move || follow(&cluster, &volumes, written, &seen));
        Self { shared, thread: Some(thread) }
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).expect("less than an aeon");
        self.shared.delay.store(delay, Ordering::SeqCst);
    }

    pub(super) fn stop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in it has been printed, and the test fails by what is then missing.
            let _ = thread.join();
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Writes every volume as its ConfigMap is now, and returns what it wrote.
pub(super) fn sync_once(cluster: &Cluster, volumes: &[Volume]) -> Vec<Option<Files>> {
    let written = volumes.iter().map(|volume| {
        let files = read(cluster, volume)?;
        write(volume, &files);
        Some(files)
    });
    let written = written.collect();
    render(volumes);
    written
}

fn follow(cluster: &Cluster, volumes: &[Volume], mut written: Vec<Option<Files>>, shared: &Shared) {
    // Seen, but not yet to be written.
    let mut changed: Vec<Option<Instant>> = volumes.iter().map(|_| None).collect();
    while !shared.stopped.load(Ordering::SeqCst) {
        let delay = Duration::from_millis(shared.delay.load(Ordering::SeqCst));
        for ((volume, written), changed) in volumes.iter().zip(&mut written).zip(&mut changed) {
            let Some(files) = read(cluster, volume) else { continue };
            if written.as_ref() == Some(&files) {
                *changed = None;
                continue;
            }
            // A second change does not begin the delay anew.
            if changed.get_or_insert_with(Instant::now).elapsed() >= delay {
                write(volume, &files);
                render(volumes);
                *written = Some(files);
                *changed = None;
            }
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// The files of a volume; none while the API server does not say. A ConfigMap that is not there has no files.
fn read(cluster: &Cluster, volume: &Volume) -> Option<Files> {
    if volume.config_map == RENDERED_MAP {
        return None;
    }
    let data = match cluster.call("GET", &config_map(volume.config_map), "application/json", &Value::Null) {
        Ok(object) => object["data"].as_object().cloned().unwrap_or_default(),
        Err(error) if code(&error) == 404 => serde_json::Map::new(),
        Err(_) => return None,
    };
    let text = |key: &str| data.get(key).and_then(Value::as_str).map(for_a_test);
    if volume.items.is_empty() {
        Some(data.keys().filter_map(|key| Some((key.clone(), text(key)?))).collect())
    } else {
        Some(volume.items.iter().filter_map(|(key, file)| Some(((*file).to_owned(), text(key)?))).collect())
    }
}

/// `reload` by itself looks every thirty seconds.
fn for_a_test(text: &str) -> String {
    let line = |line: &str| match line.trim() {
        "reload" => line.replace("reload", "reload 2s 1s"),
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

/// As a kubelet writes a volume: a new directory, and one rename that makes it the present one.
fn write(volume: &Volume, files: &Files) {
    let directory = &volume.mount.source;
    let fresh =
        tempfile::Builder::new().prefix("..").tempdir_in(directory).expect("create a directory").keep();
    for (name, text) in files {
        fs::write(fresh.join(name), text).expect("write a file of a volume");
    }
    let (data, next) = (directory.join("..data"), directory.join("..data_tmp"));
    let before = fs::read_link(&data).ok();
    let name = fresh.file_name().expect("a directory with a name");
    symlink(name, &next).expect("link the new directory");
    fs::rename(&next, &data).expect("make the new directory the present one");
    for file in fs::read_dir(directory).expect("list a volume") {
        let file = file.expect("list a volume");
        let name = file.file_name().to_string_lossy().into_owned();
        let link = file.file_type().expect("a type of file").is_symlink();
        if link && !name.starts_with("..") && !files.contains_key(&name) {
            fs::remove_file(file.path()).expect("remove a link");
        }
    }
    for name in files.keys() {
        match symlink(Path::new("..data").join(name), directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked.expect("link a file"),
        }
    }
    if let Some(before) = before {
        fs::remove_dir_all(directory.join(before)).expect("remove the directory of before");
    }
}

/// What node-cache makes of its base file and of the ConfigMap `kube-dns`, as its sources say: pillars filled
/// in, and one server a stub domain. A `stubDomains` that is not all right changes nothing.
fn render(volumes: &[Volume]) {
    let of = |name: &str| volumes.iter().find(|volume| volume.config_map == name).map(|v| &v.mount.source);
    let (Some(base), Some(stubs), Some(rendered)) = (of("node-local-dns"), of("kube-dns"), of(RENDERED_MAP))
    else {
        return;
    };
    let Ok(base) = fs::read_to_string(base.join("Corefile.base")) else { return };
    let stubs = fs::read_to_string(stubs.join("stubDomains")).unwrap_or_else(|_| "{}".to_owned());
    let Ok(stubs) = serde_json::from_str::<BTreeMap<String, Vec<String>>>(&stubs) else { return };
    let mut text = base
        .replace("__PILLAR__LOCAL__DNS__", &NODE_LOCAL.to_string())
        .replace("__PILLAR__DNS__SERVER__", "")
        .replace("__PILLAR__CLUSTER__DNS__", &KUBE_DNS_UPSTREAM.to_string())
        .replace("__PILLAR__UPSTREAM__SERVERS__", "/etc/resolv.conf");
    for (zone, servers) in stubs {
        let servers = servers.join(" ");
        text.push_str(&format!(
            "{zone}:53 {{\n    errors\n    cache 30\n    bind {NODE_LOCAL}\n    forward . {servers}\n}}\n"
        ));
    }
    let (file, next) = (rendered.join("Corefile"), rendered.join("..Corefile"));
    fs::write(&next, text).expect("write a Corefile");
    fs::rename(&next, &file).expect("put a Corefile in place");
}
