//! F1: a typed fact about an entry, host, address, file or zone, shown alike by every surface.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::limits;

/// Characters of a value that are shown.
const LONGEST_VALUE: usize = 200;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something the author wrote is not served.
    Error,
    /// Served, or not, in a way the author may not expect.
    Warning,
    /// Worth knowing, nothing to do.
    Info,
}

impl Severity {
    /// Lower-case name, as metrics and messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

impl Serialize for Severity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident $text:literal $severity:ident,)*) => {
        /// The closed list of finding codes; each has one severity.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as messages and metrics write it.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// What it is about, in one sentence that names its clause.
            pub fn about(self) -> &'static str {
                match self { $(Code::$name => concat!($($doc),*).trim_ascii(),)* }
            }

            /// Its severity.
            pub fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// An address is neither an IP address nor a one-address CIDR (A1).
    AddressInvalid "address-invalid" Error,
    /// Served, but link-local addresses are not routed (A1).
    AddressLinkLocal "address-link-local" Warning,
    /// Served, but loopback addresses never leave the pod (A1).
    AddressLoopback "address-loopback" Warning,
    /// Served, but multicast addresses are not routed to a service (A1).
    AddressMulticast "address-multicast" Warning,
    /// Given by hand out of a range from which somebody else allocates addresses (F3).
    AddressAllocatable "address-allocatable" Warning,
    /// Inside a range of the cluster's pods, Services or nodes (F3).
    AddressInCluster "address-in-cluster" Warning,
    /// A CIDR of more than one address is no answer (A1).
    AddressRange "address-range" Warning,
    /// The same address under different hosts of different entries (O4).
    AddressShared "address-shared" Warning,
    /// `0.0.0.0` or `::` (A1).
    AddressUnspecified "address-unspecified" Error,
    /// The Service named by `--advertise-service` gives no address (D5).
    AdvertiseService "advertise-service" Warning,
    /// Another entry owns the host (O1, O3).
    ClaimLost "claim-lost" Warning,
    /// The cluster does not serve ServiceEntries (L1).
    CrdAbsent "crd-absent" Warning,
    /// Reading it makes this program panic (L9).
    EntryUnread "entry-unread" Error,
    /// Exported to some namespaces only, and DNS answers everybody (O5).
    ExportBeyond "export-beyond" Info,
    /// Exported to nobody (O5).
    ExportHidden "export-hidden" Info,
    /// Not exported to all namespaces, and `--public-only` is set (O5).
    ExportNotPublic "export-not-public" Info,
    /// A field has another type than the API says (S5).
    FieldType "field-type" Error,
    /// A file cannot be read or parsed (S3).
    FileUnreadable "file-unreadable" Error,
    /// A wildcard directly under a zone (H5).
    HostApexWildcard "host-apex-wildcard" Warning,
    /// Not a host name (H1).
    HostInvalid "host-invalid" Error,
    /// Outside every zone, but nearly inside one (H2).
    HostNearZone "host-near-zone" Warning,
    /// A host without any address does not exist in DNS (A7).
    HostNoAddress "host-no-address" Warning,
    /// The name belongs to other namespaces (O6).
    HostNotOwner "host-not-owner" Error,
    /// Outside every zone (H2).
    HostOutsideZones "host-outside-zones" Info,
    /// More than is read: hosts, addresses, findings of one entry (S7).
    LimitExceeded "limit-exceeded" Error,
    /// `<hostname>`, `$(…)` and the like: a template that was not filled in (H1).
    Placeholder "placeholder" Error,
    /// A port that no SRV record can be made of (D23).
    PortInvalid "port-invalid" Warning,
    /// `dns.<zone>` or `ns.dns.<zone>` (D5), a probe's name (D18), or one of a reverse zone (D22).
    HostReserved "host-reserved" Error,
    /// No hosts at all (H1).
    HostsEmpty "hosts-empty" Warning,
    /// Hosts without an address on one TCP port, which the mesh cannot tell apart (F3).
    PortShared "port-shared" Warning,
    /// `--skip-resolution-none` is set (A5).
    ResolutionNoneSkipped "resolution-none-skipped" Info,
    /// The annotation `globaldns.io/ttl` is not a TTL (D2).
    TtlInvalid "ttl-invalid" Warning,
    /// The zone is a public suffix, such as a top-level domain (F3).
    ZonePublic "zone-public" Info,
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// What kind of fact.
    pub code: Code,
    /// `namespace/name`, `file:document`, a file or a Service.
    pub object: String,
    /// Field path inside the object, such as `spec.addresses[1]`; empty for the whole object.
    pub field: String,
    /// The value found there, shortened to 200 characters.
    pub value: String,
    /// Why it is a finding.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// A finding; `value` is shortened.
    pub fn new(
        code: Code,
        object: impl Into<String>,
        field: impl Into<String>,
        value: &str,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            code,
            object: object.into(),
            field: field.into(),
            value: limits::shorten(value, LONGEST_VALUE),
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 7)?;
        fields.serialize_field("severity", &self.code.severity())?;
        fields.serialize_field("code", &self.code)?;
        fields.serialize_field("object", &self.object)?;
        fields.serialize_field("field", &self.field)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("why", &self.why)?;
        fields.serialize_field("remedy", &self.remedy)?;
        fields.end()
    }
}

impl Finding {
    /// All of it for who knows the object already: field, value, reason and remedy.
    pub fn told(&self) -> String {
        let Finding { field, value, why, remedy, .. } = self;
        // Debug form: whatever a ServiceEntry holds cannot steer the terminal.
        match (&**field, &**value) {
            ("", "") => format!("{why}; {remedy}"),
            (field, "") => format!("{field}: {why}; {remedy}"),
            ("", value) => format!("{value:?}: {why}; {remedy}"),
            (field, value) => format!("{field} {value:?}: {why}; {remedy}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (severity, code) = (self.code.severity().as_str(), self.code.as_str());
        write!(f, "{severity} [{code}] {}: {}", self.object, self.told())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [F1]
    #[test]
    fn a_finding_names_code_object_field_value_reason_and_remedy() {
        let finding = Finding::new(
            Code::AddressRange,
            "foo/bar",
            "spec.addresses[1]",
            "10.0.0.0/8",
            "a CIDR of more than one address is no answer",
            "list single addresses",
        );
        assert_eq!(
            finding.to_string(),
            "warning [address-range] foo/bar: spec.addresses[1] \"10.0.0.0/8\": a CIDR of more than one address is no answer; list single addresses"
        );
    }

    /// [F1]
    #[test]
    fn values_are_shortened_and_cannot_steer_the_terminal() {
        let finding = Finding::new(Code::HostInvalid, "a/b", "", &"é\u{1b}[31m".repeat(100), "w", "r");
        assert_eq!(finding.value.chars().count(), 201);
        assert!(!finding.to_string().contains('\u{1b}'));
    }

    /// [F1]
    #[test]
    fn codes_are_unique() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
