use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::*;

/// What is below `tests/fuzz/seeds`, by target.
fn seeds() -> impl Iterator<Item = (String, Vec<std::path::PathBuf>)> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let entries = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    entries(&seeds).into_iter().map(move |path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, entries(&path))
    })
}

/// What the fuzzer begins with, and what it once found.
#[test]
fn every_target_has_seeds_and_they_hold() {
    let mut seeded = BTreeSet::new();
    for (name, files) in seeds() {
        let check = target(&name).unwrap_or_else(|| panic!("there is no target {name}"));
        for file in files {
            let octets = std::fs::read(&file).expect("readable");
            let held = std::panic::catch_unwind(|| check(&octets));
            assert!(held.is_ok(), "{}", file.display());
            seeded.insert(name.clone());
        }
    }
    let all: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(seeded, all);
}

/// The fuzzer's rules hold for octets at random, so that a rule that is wrong shows before it runs.
macro_rules! hold_for_octets_at_random {
    ($($target:ident)*) => {
        proptest! {
            $(
                #[test]
                fn $target(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
                    target(stringify!($target)).expect("a target")(&octets);
                }
            )*
        }
    };
}

mod random {
    use super::*;

    // `parity` has more of them, in its own module.
    hold_for_octets_at_random! { edns names entry index corefile stub_json state stream client arguments }
}
