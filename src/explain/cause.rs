//! Why a name does not resolve: a closed list.

use serde::{Deserialize, Serialize};

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// The one cause an explanation names. Everything else it says is detail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Cause { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Cause] = &[$(Cause::$name,)*];

            /// The cause as messages and JSON write it.
            pub fn as_str(self) -> &'static str {
                match self { $(Cause::$name => $text,)* }
            }
        }
    };
}

causes! {
    /// It does resolve.
    Resolves "resolves",
    /// What was asked is no DNS name.
    NameInvalid "name-invalid",
    /// No complete list has come yet (D9).
    NotLoaded "not-loaded",
    /// A type that is refused: transfers, OPT, MAILA, MAILB (D10).
    TypeRefused "type-refused",
    /// The name exists; names here have no records of the type (D3).
    TypeUnserved "type-unserved",
    /// The host has addresses of the other family only (D3).
    FamilyMissing "family-missing",
    /// An entry gives the address asked for, and another one owns the host (O1).
    ClaimLost "claim-lost",
    /// A more specific host answers, without the address that a wildcard above it has (H4).
    Shadowed "shadowed",
    /// The suffix of a wildcard, which the wildcard does not stand for (H4).
    WildcardSuffix "wildcard-suffix",
    /// The name exists only because something lies below it (D3).
    EmptyNonTerminal "empty-non-terminal",
    /// The apex of a zone, which no entry has as its host (H3).
    ZoneApex "zone-apex",
    /// A name of the zone's own: its name server, a probe (D5, D18).
    Reserved "reserved",
    /// A name in a reverse zone, and no exact host is answered with its address (D22).
    NoSuchAddress "no-such-address",
    /// A host that is answered does not have this service (D23).
    NoSuchService "no-such-service",
    /// None of the addresses listed is one (A1).
    AddressInvalid "address-invalid",
    /// Only CIDRs of more than one address are listed (A1).
    AddressRange "address-range",
    /// Only `0.0.0.0` or `::` is listed (A1).
    AddressUnspecified "address-unspecified",
    /// The addresses are placeholders that nobody filled in.
    AddressPlaceholder "address-placeholder",
    /// `spec.addresses` has another type than a list of strings (S5).
    AddressType "address-type",
    /// No address, and `resolution: NONE`, the API's default, gets none allocated (A2, A3).
    ResolutionNone "resolution-none",
    /// No address, and a label switches allocation off (A2).
    AllocationOff "allocation-off",
    /// No address, and istiod has allocated none to the host (A2, A7).
    NotAllocated "not-allocated",
    /// The entry is exported to nobody (O5).
    ExportHidden "export-hidden",
    /// The entry is not exported to all, and `--public-only` is set (O5).
    ExportNotPublic "export-not-public",
    /// `--skip-resolution-none` leaves the entry out (A5).
    ResolutionNoneSkipped "resolution-none-skipped",
    /// The name belongs to other namespaces (O6).
    NotOwner "not-owner",
    /// A wildcard directly under a zone (H5).
    ApexWildcard "apex-wildcard",
    /// An entry wants a name of the zone's own (D5, D18).
    HostReserved "host-reserved",
    /// The entry's host is no DNS name (H1), or its hosts are no list (S5).
    HostInvalid "host-invalid",
    /// The entry's host is a placeholder that nobody filled in (H1).
    HostPlaceholder "host-placeholder",
    /// A client's search path has made the name (H6).
    SearchPath "search-path",
    /// A wildcard would match, and a suffix between is somebody's own (O6).
    CutOff "cut-off",
    /// A name of the cluster's own domain.
    ClusterName "cluster-name",
    /// An entry has the host, and no zone covers it (H2).
    HostOutsideZones "host-outside-zones",
    /// An entry has a host in the cluster's own domain, which is never served (Z2).
    HostInClusterDomain "host-in-cluster-domain",
    /// The zone was left out.
    ZoneMissing "zone-missing",
    /// The same name exists in another zone.
    OtherZone "other-zone",
    /// `svc`, or the cluster domain, is left in the name.
    SvcInName "svc-in-name",
    /// Two labels are in the wrong order.
    LabelsSwapped "labels-swapped",
    /// The name without one of its labels exists.
    LabelExtra "label-extra",
    /// The name with one more label exists.
    LabelMissing "label-missing",
    /// A name that is spelled nearly so exists.
    Misspelled "misspelled",
    /// No zone covers the name, and no entry has it (D8).
    OutsideZones "outside-zones",
    /// No entry at all was read.
    NoEntries "no-entries",
    /// No entry has a host like it (D4).
    NoEntry "no-entry",
}
