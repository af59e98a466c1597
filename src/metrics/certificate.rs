//! The metrics of the certificate, there only where DNS is served encrypted.

use std::sync::atomic::Ordering;

use prometheus::proto::MetricFamily;

use super::CertificateCounters;
use super::family::FamilyBuilder;

pub(super) fn families(counters: &CertificateCounters) -> Vec<MetricFamily> {
    let expires = counters.expires.load(Ordering::Relaxed);
    let up = f64::from(u8::from(counters.up.load(Ordering::Relaxed)));
    let help =
        "1 while --tls-cert and --tls-key can be used, 0 while an older certificate stays in their place.";
    let up = FamilyBuilder::gauge("globaldns_certificate_up", help).with(&[], up).done();
    let mut reloads = FamilyBuilder::counter(
        "globaldns_certificate_reloads_total",
        "Times the certificate was read again because it had changed, by result.",
    );
    for (result, count) in [("success", &counters.loaded), ("failure", &counters.failed)] {
        reloads.add(&[("result", result)], count.load(Ordering::Relaxed) as f64);
    }
    let expiry = FamilyBuilder::gauge(
        "globaldns_certificate_expiry_timestamp_seconds",
        "Unix time until which the certificate shown to clients, and all that lead to its authority, are valid.",
    );
    vec![up, expiry.with(&[], expires as f64).done(), reloads.done()]
}
