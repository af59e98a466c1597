use proptest::prelude::*;
use proptest::sample::Index;

use super::tests::{block, stub};
use super::*;
use crate::stub::corefile::check::edited;
use crate::stub::corefile::random::{mangled, migrated, named, ours, piece, shape, shaped, soup};

fn before() -> Ours {
    Ours::default().with(&stub(&["cluster2", "old"], &["10.96.0.9:53"]))
}

fn apply(text: &str) -> Result<Edit, Refusal> {
    edit(text, Some(&block()), &before(), &Process::default())
}

fn remove(text: &str) -> Result<Edit, Refusal> {
    edit(text, None, &before().with(&block().stub), &Process::default())
}

#[test]
fn the_migration_of_our_block_is_what_kubeadm_makes_of_it() {
    let text = migrated(&format!(".:53 {{\n  hosts {{\n 10.0.0.1 a\n  }}\n}}\n{}", block()));
    let expected = "\
.:53 {
    hosts {
        10.0.0.1 a
    }
}

global:53 cluster2:53 {
    errors
    cache 30
    forward . 10.96.0.53 {
        max_concurrent 1000
    }
    loop
}
";
    assert_eq!(text, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_new_block_leaves_everything_and_goes_without_a_trace(
        pieces in prop::collection::vec(piece(), 0..6),
        shape in shape(),
    ) {
        let text = shaped(&named(&pieces).concat(), shape);
        let edited = apply(&text).unwrap_or_else(|refusal| panic!("{text}\n{refusal}"));
        prop_assert!(edited.text.starts_with(&text) && edited.text.len() > text.len());
        prop_assert!(matches!(edited.steps[..], [Step::Added(_)]));
        let again = apply(&edited.text).expect("a second edit");
        prop_assert_eq!((again.text.as_str(), again.changes()), (edited.text.as_str(), false));
        let removed = remove(&edited.text).expect("a removal");
        prop_assert_eq!(removed.text, text);
    }

    #[test]
    fn blocks_of_ours_are_found_wherever_they_are(
        pieces in prop::collection::vec(piece(), 0..5),
        found in prop::collection::vec((any::<Index>(), ours()), 1..4),
        shape in shape(),
    ) {
        let pieces = named(&pieces);
        let mut all: Vec<String> = pieces.clone();
        for (at, ours) in &found {
            all.insert(at.index(all.len() + 1), ours.clone());
        }
        let (text, without) = (shaped(&all.concat(), shape), shaped(&pieces.concat(), shape));
        let removed = remove(&text).unwrap_or_else(|refusal| panic!("{text}\n{refusal}"));
        prop_assert_eq!(&removed.text, &without);
        prop_assert_eq!(removed.steps.len(), found.len());
        let edited = apply(&text).unwrap_or_else(|refusal| panic!("{text}\n{refusal}"));
        prop_assert!(!apply(&edited.text).expect("a second edit").changes());
        prop_assert_eq!(remove(&edited.text).expect("a removal").text, without);
    }

    /// kubernetes/kubernetes#88811
    #[test]
    fn what_kubeadm_writes_anew_is_still_ours(
        pieces in prop::collection::vec(piece(), 0..5),
        shape in shape(),
    ) {
        let text = shaped(&named(&pieces).concat(), shape);
        let edited = apply(&text).expect("an edit");
        let anew = migrated(&edited.text);
        // The migration breaks some texts by itself; ours is not to blame for those.
        if Corefile::parse(&anew, &Process::default()).is_ok()
            && let Ok(again) = apply(&anew)
        {
            prop_assert!(!again.changes(), "{}\n{:?}", anew, again.steps);
        } else {
            prop_assert!(apply(&migrated(&text)).is_err(), "{}", anew);
        }
    }

    /// Whatever a text is: no panic, and an edit that is made holds its promises.
    #[test]
    fn mangled_texts_are_refused_or_edited_well(text in mangled(), soup in soup()) {
        holds(&text);
        holds(&soup);
    }

    #[test]
    fn arbitrary_texts_are_refused_or_edited_well(text in "[a.:# \"\\\\{}()$,*\r\n\u{feff}]{0,80}", any in any::<String>()) {
        holds(&text);
        holds(&any);
    }
}

fn holds(text: &str) {
    edited(text, &block(), &before(), &Process::default());
}
