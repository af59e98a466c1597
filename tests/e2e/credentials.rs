//! Certificates, tokens and kubeconfig files of one control plane.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};

/// Who may ask the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// In `system:masters`: may do everything.
    Admin,
    /// Has the rights the documentation asks for, in all namespaces.
    Globaldns,
    /// Has those rights only in the namespaces of one test.
    Tenant,
    /// Authenticated, without any right but discovery.
    Nobody,
}

impl User {
    pub(crate) const ALL: [Self; 4] = [Self::Admin, Self::Globaldns, Self::Tenant, Self::Nobody];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Globaldns => "globaldns",
            Self::Tenant => "tenant",
            Self::Nobody => "nobody-special",
        }
    }

    fn token(self) -> String {
        format!("{}-token", self.name())
    }
}

/// The files of one control plane, all below one directory.
pub(crate) struct Credentials {
    directory: PathBuf,
}

impl Credentials {
    /// Writes everything the API server needs.
    pub(crate) fn create(directory: &Path) -> Self {
        let credentials = Self { directory: directory.to_owned() };
        credentials.write_certificates();

        let service_accounts = KeyPair::generate().expect("generate a key");
        credentials.write("service-accounts.key", &service_accounts.serialize_pem());
        credentials.write("service-accounts.pub", &service_accounts.public_key_pem());

        let tokens: String = User::ALL
            .into_iter()
            .map(|user| {
                let group = match user {
                    User::Admin => ",\"system:masters\"",
                    _ => "",
                };
                format!("{},{},{}{group}\n", user.token(), user.name(), user.name())
            })
            .collect();
        credentials.write("tokens.csv", &tokens);

        // What our users asked for, as the API server saw it: tests need not trust our own metrics.
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [
                {
                    "level": "Metadata",
                    "users": [User::Globaldns.name(), User::Tenant.name(), User::Nobody.name()],
                },
                { "level": "None" },
            ],
        });
        credentials.write("audit-policy.yaml", &policy.to_string());
        credentials
    }

    /// One of the files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A kubeconfig for `user` with the API server at loopback port `port`.
    pub(crate) fn kubeconfig(&self, user: User, port: u16) -> PathBuf {
        self.kubeconfig_of(user.name(), &json!({ "token": user.token() }), port)
    }

    /// A kubeconfig for whoever has these credentials.
    pub(crate) fn kubeconfig_of(&self, name: &str, user: &Value, port: u16) -> PathBuf {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{ "name": "e2e", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": self.path("ca.crt"),
            }}],
            "users": [{ "name": name, "user": user }],
            "contexts": [{ "name": name, "context": { "cluster": "e2e", "user": name } }],
        });
        self.write(&format!("{name}-{port}.kubeconfig"), &config.to_string())
    }

    fn write_certificates(&self) {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(rcgen::DnType::CommonName, "globaldns e2e");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca_key = KeyPair::generate().expect("generate a key");
        let ca = CertifiedIssuer::self_signed(ca, ca_key).expect("sign the CA certificate");

        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(String::from);
        let mut server = CertificateParams::new(names).expect("valid subject alternative names");
        server.distinguished_name.push(rcgen::DnType::CommonName, "kube-apiserver");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate().expect("generate a key");
        let server = server.signed_by(&server_key, &ca).expect("sign the server certificate");

        self.write("ca.crt", &ca.pem());
        self.write("server.crt", &server.pem());
        self.write("server.key", &server_key.serialize_pem());
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}
