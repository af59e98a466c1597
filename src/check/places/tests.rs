use super::*;

/// Positions of fields of an object of a text.
fn places(text: &str, position: (u32, u32), fields: &[&str]) -> Vec<Option<Position>> {
    let mut places = Places::default();
    fields.iter().for_each(|field| places.want(position, field));
    places.look(text);
    fields.iter().map(|field| places.get(position, field)).collect()
}

const YAML: &str = "\
# remark
---
kind: ConfigMap
data: {hosts: [a]}
---
kind: ServiceEntry
metadata:
  annotations:
    globaldns.io/ttl: x
spec:
  hosts:
  - a.global
  - 'b.global'
  ports: [{number: 80}, {number: 443,
    protocol: TLS}]
";

/// [F2]
#[test]
fn fields_are_found_by_their_key_and_items_where_they_begin() {
    let fields = [
        "",
        "metadata.annotations[globaldns.io/ttl]",
        "spec.hosts",
        "spec.hosts[0]",
        "spec.hosts[1]",
        "spec.ports[1].number",
        "spec.ports[1].protocol",
    ];
    let wanted = [(6, 1), (9, 5), (11, 3), (12, 5), (13, 5), (14, 26), (15, 5)];
    assert_eq!(places(YAML, (2, 0), &fields), wanted.map(Some));
}

/// [F2]
#[test]
fn what_is_not_there_is_where_it_would_be() {
    let fields =
        ["spec.addresses[3]", "status.addresses[0].value", "spec.hosts[7]", "metadata.annotations[x.y]"];
    assert_eq!(places(YAML, (2, 0), &fields), [(10, 1), (6, 1), (11, 3), (8, 3)].map(Some));
    assert_eq!(places(YAML, (3, 0), &["spec"]), [None]);
}

/// [F2]
#[test]
fn json_and_items_of_a_list_are_found_alike() {
    let text = "{\"items\": [\n {\"spec\": {\"hosts\": [\"a\"]}},\n\t{\"spec\": {\"hosts\": [\"b\",\n \"c\"]}}\n], \"kind\": \"List\"}";
    assert_eq!(
        places(text, (1, 2), &["", "spec.hosts[0]", "spec.hosts[1]"]),
        [(3, 2), (3, 22), (4, 2)].map(Some)
    );
}

/// [F2]
#[test]
fn aliases_and_odd_keys_confuse_nothing() {
    let text = "a: &a {x: [1]}\n? [odd, key]\n: value\nb: *a\nspec:\n  hosts:\n  - *a\n  - b\n";
    assert_eq!(
        places(text, (1, 0), &["b.x[0]", "spec.hosts[0]", "spec.hosts[1]"]),
        [(4, 1), (7, 5), (8, 5)].map(Some)
    );
    // Up to where it is broken.
    assert_eq!(places("a: [1]\nb: }\nc: 1\n", (1, 0), &["a[0]", "c"]), [(1, 5), (1, 1)].map(Some));
}
