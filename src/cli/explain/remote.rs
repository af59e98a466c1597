//! Asking a running server: at a URL, or through the API server's proxy of its Service.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::Request;
use serde_json::Value;

use crate::admin;
use crate::config::{ConfigError, TableConfig};
use crate::entry::is_namespace;
use crate::source::cluster::Access;

/// Octets of a reply. An explanation with twenty entries of a thousand addresses has a few hundred KiB.
const MOST_REPLY: usize = 16 << 20;
/// The longest wait for a reply; the server closes a connection after 30 s.
const PATIENCE: Duration = Duration::from_secs(35);
/// The admin listener's port where none is named.
const ADMIN_PORT: u16 = 9153;

/// What to see to where nobody answers, or somebody else does.
const IS_IT: &str = "see that it is the admin listener of a globaldns of this version";

/// Where to ask.
#[derive(Debug, PartialEq, Eq)]
enum Server {
    /// `HOST:PORT`, and the path in front of ours.
    Url { authority: String, prefix: String },
    /// A Service of the cluster.
    Service { namespace: String, name: String, port: String },
}

impl Server {
    fn parse(text: &str) -> Result<Server, ConfigError> {
        // Nobody's password is repeated.
        if let Some((_, behind)) = text.rsplit_once('@') {
            return Err(ConfigError(format!(
                "--server …@{behind}: the admin listener knows no users; leave what stands before the @ out"
            )));
        }
        let bad = |why: &str| {
            ConfigError(format!(
                "--server {text:?}: {why}; write http://ADDRESS:PORT of the admin listener, or NAMESPACE/SERVICE[:PORT]"
            ))
        };
        if let Some(rest) = text.strip_prefix("http://") {
            if rest.contains(['?', '#']) {
                return Err(bad("nothing but a path may stand behind the address"));
            }
            let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (host, port) = match authority.rsplit_once(']') {
                Some((host, "")) => (host, None),
                Some((host, rest)) => (host, Some(rest.trim_start_matches(':'))),
                None => {
                    authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)))
                }
            };
            let authority = match port {
                Some(port) if port.contains(':') => return Err(bad("an IPv6 address stands in brackets")),
                _ if host.is_empty() => return Err(bad("there is no address")),
                None => format!("{authority}:{ADMIN_PORT}"),
                Some(port) if is_port(port) => authority.to_owned(),
                Some(port) => return Err(bad(&format!("the port {port:?} is no number from 1 to 65535"))),
            };
            return Ok(Server::Url { authority, prefix: prefix.trim_end_matches('/').to_owned() });
        }
        if text.contains("://") {
            return Err(bad("the admin listener speaks http only"));
        }
        let (namespace, rest) = text.split_once('/').ok_or_else(|| bad("it is neither"))?;
        let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
        if !is_namespace(namespace) {
            return Err(bad(&format!("{namespace:?} is not a namespace")));
        }
        // Services are called as namespaces may be, and ports so or by a number.
        if !is_namespace(name) {
            return Err(bad(&format!("{name:?} is not the name of a Service")));
        }
        let by_number = port.bytes().all(|octet| octet.is_ascii_digit());
        if !port.is_empty() && !(if by_number { is_port(port) } else { is_namespace(port) }) {
            return Err(bad(&format!("the port {port:?} is neither a number from 1 to 65535 nor a name")));
        }
        let port = if port.is_empty() { ADMIN_PORT.to_string() } else { port.to_owned() };
        Ok(Server::Service { namespace: namespace.to_owned(), name: name.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Url { authority, prefix } => write!(f, "http://{authority}{prefix}"),
            Server::Service { namespace, name, port } => write!(f, "{namespace}/{name}:{port}"),
        }
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Asks, and returns what it says.
pub(super) async fn ask(
    server: &str,
    name: &str,
    types: &[String],
    config: &TableConfig,
) -> anyhow::Result<Value> {
    let to = Server::parse(server)?;
    let path = path(name, types);
    let asked = async {
        match &to {
            Server::Url { authority, prefix } => over_http(authority, &format!("{prefix}{path}")).await,
            Server::Service { namespace, name, port } => {
                let source = config.sources.cluster.clone();
                let (kubeconfig, context) =
                    source.map_or((None, None), |source| (source.kubeconfig, source.context));
                let client = Access::find(kubeconfig, context).await?.client()?;
                let uri = format!("/api/v1/namespaces/{namespace}/services/{name}:{port}/proxy{path}");
                let request = Request::get(uri).header(admin::host::NO_BROWSER, "1").body(Vec::new())?;
                let said = client.request_text(request).await.map_err(anyhow::Error::new);
                said.map_err(|error| anyhow!("{error:#}; {IS_IT}"))
            }
        }
    };
    let text = tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| bail!("no reply within {} s; {IS_IT}", PATIENCE.as_secs()))
        .with_context(|| format!("asking {to}"))?;
    let mut said: Value = serde_json::from_str(&text)
        .with_context(|| format!("reading the reply of {to}, which is no JSON"))?;
    // For the page; here it is written anew, so that nothing in it steers the terminal.
    if let Some(fields) = said.as_object_mut() {
        fields.remove("text");
    }
    Ok(said)
}

/// What is asked for.
fn path(name: &str, types: &[String]) -> String {
    let start = "/api/v1/explain?";
    let mut query = form_urlencoded::Serializer::for_suffix(start.to_owned(), start.len());
    query.append_pair("name", name);
    if !types.is_empty() {
        query.append_pair("type", &types.join(","));
    }
    query.finish()
}

async fn over_http(authority: &str, path: &str) -> anyhow::Result<String> {
    let asked = admin::ask::reply(authority, authority, path, MOST_REPLY).await;
    let (status, body) = asked.map_err(|error| anyhow!("{error}; {IS_IT}"))?;
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() {
        return Ok(text);
    }
    let said = serde_json::from_str::<Value>(&text).ok();
    let said = |field: &str| said.as_ref()?.get("error")?.get(field)?.as_str();
    match (said("reason"), said("remedy")) {
        (Some(reason), Some(remedy)) => bail!("it says {status}: {reason:?}; {remedy:?}"),
        _ => bail!("it says {status}; {IS_IT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [I1]
    #[test]
    fn a_server_is_a_url_or_a_service() {
        let url = |authority: &str, prefix: &str| Server::Url {
            authority: authority.into(),
            prefix: prefix.into(),
        };
        let service = |namespace: &str, name: &str, port: &str| Server::Service {
            namespace: namespace.into(),
            name: name.into(),
            port: port.into(),
        };
        let cases = [
            ("http://127.0.0.1:9153", url("127.0.0.1:9153", "")),
            ("http://[::1]:9153/", url("[::1]:9153", "")),
            ("http://[::1]", url("[::1]:9153", "")),
            ("http://dns.example/globaldns/", url("dns.example:9153", "/globaldns")),
            ("istio-system/globaldns", service("istio-system", "globaldns", "9153")),
            ("a/b:metrics", service("a", "b", "metrics")),
        ];
        for (text, expected) in cases {
            assert_eq!(Server::parse(text).expect(text), expected);
        }
        for (text, why) in [
            ("https://a:1", "http only"),
            ("http://", "no address"),
            ("http://:9153", "no address"),
            ("http://127.0.0.1:99999", "port \"99999\""),
            ("http://a:0", "port \"0\""),
            ("http://[::1]:x", "port \"x\""),
            ("http://::1:9153", "in brackets"),
            ("http://a:1/?x=1", "behind the address"),
            ("globaldns", "neither"),
            ("a/b/c", "\"b/c\" is not the name"),
            ("/b", "\"\" is not a namespace"),
            ("Istio/b", "\"Istio\" is not a namespace"),
            ("a/", "\"\" is not the name"),
            ("a/b:c d", "port \"c d\""),
            ("a/b:99999", "port \"99999\""),
        ] {
            let error = Server::parse(text).expect_err(text).to_string();
            assert!(error.contains("write http://ADDRESS:PORT") && error.contains(why), "{error}");
        }
        let error = Server::parse("http://u:secret@h:1").expect_err("a password").to_string();
        assert!(!error.contains("secret") && error.contains("…@h:1"), "{error}");
    }

    /// [I1] Whatever somebody asks about arrives as it is.
    #[test]
    fn a_question_survives_its_way_through_a_url() {
        let asked = "a b&c=.global%\u{e9}+#";
        let path = path(asked, &["A".to_owned(), "TYPE65".to_owned()]);
        let query = path.strip_prefix("/api/v1/explain?").expect("the path");
        assert!(!query.contains([' ', '#']), "{query}");
        let read: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read, [pair("name", asked), pair("type", "A,TYPE65")]);
    }
}
