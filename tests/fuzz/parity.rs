//! See `globaldns::serve::parity`, where what the octets mean is written.

#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    globaldns::serve::parity::check(octets);
});
