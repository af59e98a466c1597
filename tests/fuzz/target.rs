//! The target that `FUZZ_TARGET` names; see `globaldns::testing`.

#![no_main]

use std::sync::LazyLock;

use globaldns::testing::{self, Check};

static CHECK: LazyLock<Check> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    testing::target(&name).unwrap_or_else(|| panic!("there is no target {name:?}"))
});

libfuzzer_sys::fuzz_target!(|octets: &[u8]| CHECK(octets));
