//! Who one is for a registry: `--creds`, Docker's config.json, containers' auth.json and credential helpers.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{base64, helper};
use crate::error::{Error, Kind, Result};

/// A secret, and how it is to be used.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password: as Basic, or to get a token with.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// An identity token: an OAuth2 refresh token that the token server changes into an access token.
    Identity {
        /// The user it belongs to; may be empty.
        user: String,
        /// The refresh token.
        token: String,
    },
    /// An access token, sent as it is.
    Access(String),
}

impl Credential {
    /// `user:password`, as `--creds` has it; a user alone has an empty password.
    #[must_use]
    pub fn from_pair(text: &str) -> Self {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Self::Basic { user: user.into(), password: password.into() }
    }
}

/// Never the secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user:?})"),
            Self::Identity { user, .. } => write!(f, "Identity({user:?})"),
            Self::Access(_) => f.write_str("Access"),
        }
    }
}

/// Where credentials are looked for.
#[derive(Debug)]
pub struct Credentials {
    /// Of the command line, for the registry that the reference names and no other.
    explicit: Option<Option<Credential>>,
    files: Vec<PathBuf>,
    /// The file was named by the user, so it has to be there.
    required: bool,
    helper_timeout: Duration,
    found: Mutex<HashMap<String, Option<Credential>>>,
}

impl Credentials {
    /// No credentials for anybody.
    #[must_use]
    pub fn none() -> Self {
        Self::from_files(Vec::new())
    }

    /// Those in `files`, the first that knows the registry.
    #[must_use]
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        Self {
            explicit: None,
            files,
            required: false,
            helper_timeout: helper::TIMEOUT,
            found: Mutex::default(),
        }
    }

    /// Those of the files that skopeo, podman and docker read, in their order: `authfile` alone if there is one, then
    /// `$REGISTRY_AUTH_FILE` alone, or else containers' auth.json, Docker's config.json and the old `.dockercfg`.
    #[must_use]
    pub fn from_environment(
        authfile: Option<PathBuf>,
        env: &dyn Fn(&str) -> Option<OsString>,
        uid: u32,
    ) -> Self {
        let path = |name: &str| env(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(only) = authfile.or_else(|| path("REGISTRY_AUTH_FILE")) {
            return Self { required: true, ..Self::from_files(vec![only]) };
        }
        let runtime = path("XDG_RUNTIME_DIR")
            .map_or_else(|| format!("/run/containers/{uid}").into(), |dir| dir.join("containers"));
        let home = path("HOME");
        let config = path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|h| h.join(".config")));
        let docker = path("DOCKER_CONFIG").or_else(|| home.as_ref().map(|h| h.join(".docker")));
        let files = [
            Some(runtime.join("auth.json")),
            config.map(|dir| dir.join("containers/auth.json")),
            docker.map(|dir| dir.join("config.json")),
            home.map(|dir| dir.join(".dockercfg")),
        ];
        Self::from_files(files.into_iter().flatten().collect())
    }

    /// With `credential` (or none at all) for the registry itself, whatever the files say.
    #[must_use]
    pub fn with_explicit(mut self, credential: Option<Credential>) -> Self {
        self.explicit = Some(credential);
        self
    }

    /// With another bound on how long a credential helper may take.
    #[must_use]
    pub fn with_helper_timeout(mut self, timeout: Duration) -> Self {
        self.helper_timeout = timeout;
        self
    }

    /// The credential for `repository` on `host`. `own` says that `host` is the one that the user's reference names,
    /// and not a mirror of it.
    ///
    /// # Errors
    /// [`Kind::Auth`] when a file cannot be read or a helper set for this very registry fails: to go on as nobody
    /// would give an error further on that hides the reason.
    pub(super) fn lookup(
        &self,
        host: &str,
        repository: &str,
        own: bool,
        warn: &dyn Fn(&str),
    ) -> Result<Option<Credential>> {
        if let (true, Some(explicit)) = (own, &self.explicit) {
            return Ok(explicit.clone());
        }
        let key = format!("{host}/{repository}");
        // Held while a helper runs: it may ask a person, who wants to be asked once.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = found.get(&key) {
            return Ok(known.clone());
        }
        let mut credential = None;
        for path in &self.files {
            if let Some(file) = read(path, self.required, warn)? {
                credential = self
                    .in_file(&file, host, repository, warn)
                    .map_err(|e| e.context(path.display()))?;
                if credential.is_some() {
                    break;
                }
            }
        }
        found.insert(key, credential.clone());
        Ok(credential)
    }

    /// Where was looked, for the error that says that nothing was found.
    pub(super) fn places(&self) -> String {
        let names: Vec<_> = self.files.iter().map(|f| f.display().to_string()).collect();
        if names.is_empty() {
            "no files were looked at".into()
        } else {
            format!("looked at {}", names.join(", "))
        }
    }

    fn in_file(
        &self,
        file: &ConfigFile,
        host: &str,
        repository: &str,
        warn: &dyn Fn(&str),
    ) -> Result<Option<Credential>> {
        for name in aliases(host) {
            if let Some(helper) = file.helpers.get(name).filter(|h| !h.is_empty()) {
                return helper::get(helper, server_of(name), self.helper_timeout);
            }
        }
        if let Some(entry) = entry_for(&file.auths, host, repository)
            && let Some(credential) = entry.credential()?
        {
            return Ok(Some(credential));
        }
        let Some(store) = file.store.as_deref().filter(|s| !s.is_empty()) else { return Ok(None) };
        // A store is for all registries: one that does not work is no reason not to pull what is public.
        Ok(helper::get(store, server_of(host), self.helper_timeout).unwrap_or_else(|error| {
            warn(&error.to_string());
            None
        }))
    }
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct ConfigFile {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Entry {
    /// `None` when it is empty, which means that the store knows.
    fn credential(&self) -> Result<Option<Credential>> {
        let full = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        if let Some(token) = full(&self.registrytoken) {
            return Ok(Some(Credential::Access(token)));
        }
        let mut user = full(&self.username).unwrap_or_default();
        let mut password = full(&self.password).unwrap_or_default();
        if let Some(auth) = full(&self.auth) {
            let bad = || Error::new(Kind::Auth, "an `auth` is not base64 of user:password");
            let text =
                String::from_utf8(base64::decode(&auth).ok_or_else(bad)?).map_err(|_why| bad())?;
            let (name, secret) = text.split_once(':').ok_or_else(bad)?;
            user = name.to_owned();
            // Docker's own files had them at the end.
            password = secret.trim_end_matches('\0').to_owned();
        }
        Ok(match full(&self.identitytoken) {
            Some(token) => Some(Credential::Identity { user, token }),
            None if user.is_empty() && password.is_empty() => None,
            None => Some(Credential::Basic { user, password }),
        })
    }
}

/// Larger files hold no credentials.
const LIMIT: u64 = 1 << 20;

fn read(path: &Path, required: bool, warn: &dyn Fn(&str)) -> Result<Option<ConfigFile>> {
    let failed = |e: io::Error| {
        Error::io(format!("cannot read {}", path.display()), e).with_kind(Kind::Auth)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e)
            if !required
                && matches!(
                    e.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::PermissionDenied
                ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(failed(e)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && metadata.mode() & 0o004 != 0 && metadata.len() > 2 {
        warn(&format!("{} can be read by everybody on this machine", path.display()));
    }
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LIMIT {
        return Err(Error::new(
            Kind::Auth,
            format!("{}: larger than {LIMIT} bytes", path.display()),
        ));
    }
    let legacy = path.file_name().is_some_and(|name| name == ".dockercfg");
    parse(&text, legacy).map(Some).map_err(|(line, column)| {
        // What serde_json says may quote what stands there.
        Error::new(
            Kind::Auth,
            format!(
                "{}: not the JSON of a file of credentials, at line {line} column {column}",
                path.display()
            ),
        )
    })
}

fn parse(text: &str, legacy: bool) -> Result<ConfigFile, (usize, usize)> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok(ConfigFile::default());
    }
    let place = |e: serde_json::Error| (e.line(), e.column());
    if legacy {
        return Ok(ConfigFile {
            auths: serde_json::from_str(text).map_err(place)?,
            ..ConfigFile::default()
        });
    }
    serde_json::from_str(text).map_err(place)
}

/// The names that one registry has in these files.
fn aliases(host: &str) -> Vec<&str> {
    const HUB: [&str; 4] =
        ["docker.io", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"];
    if HUB.contains(&host) { HUB.to_vec() } else { vec![host] }
}

/// What a helper wants to be asked for.
fn server_of(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
        other => other,
    }
}

/// The most specific entry: `host/a/b`, `host/a`, `host`, then keys written as URLs, as Docker writes them.
fn entry_for<'a>(
    auths: &'a BTreeMap<String, Entry>,
    host: &str,
    repository: &str,
) -> Option<&'a Entry> {
    let mut key = format!("{host}/{repository}");
    loop {
        if let Some(entry) = auths.get(&key) {
            return Some(entry);
        }
        match key.rfind('/') {
            Some(slash) => key.truncate(slash),
            None => break,
        }
    }
    let names = aliases(host);
    if let Some(entry) = names.iter().find_map(|name| auths.get(*name)) {
        return Some(entry);
    }
    auths.iter().find_map(|(key, entry)| {
        let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"))?;
        let bare = bare.split('/').next().unwrap_or_default();
        names.contains(&bare).then_some(entry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, host: &str, repository: &str) -> Option<Credential> {
        let file = parse(json, false).unwrap();
        Credentials::none().in_file(&file, host, repository, &|_| {}).unwrap()
    }

    fn basic(user: &str) -> Option<Credential> {
        Some(Credential::Basic { user: user.into(), password: "p".into() })
    }

    fn auth(user: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, base64::encode(format!("{user}:p").as_bytes()))
    }

    #[test]
    fn the_most_specific_key_counts() {
        let json = format!(
            r#"{{"auths":{{"r.example":{},"r.example/a":{},"r.example/a/b":{},"r.example:5000":{}}}}}"#,
            auth("host"),
            auth("a"),
            auth("ab"),
            auth("port")
        );
        assert_eq!(find(&json, "r.example", "a/b"), basic("ab"));
        assert_eq!(find(&json, "r.example", "a/c"), basic("a"));
        // `a` is a directory of names, not the beginning of one.
        assert_eq!(find(&json, "r.example", "ab"), basic("host"));
        assert_eq!(find(&json, "r.example:5000", "a/b"), basic("port"));
        assert_eq!(find(&json, "r.example:5001", "a/b"), None);
        assert_eq!(find(&json, "evil-r.example", "a/b"), None);
        assert_eq!(find(&json, "r.example.evil", "a/b"), None);
    }

    #[test]
    fn docker_writes_urls() {
        let json = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{},"https://r.example/v2/":{}}}}}"#,
            auth("hub"),
            auth("r")
        );
        assert_eq!(find(&json, "docker.io", "library/x"), basic("hub"));
        assert_eq!(find(&json, "registry-1.docker.io", "library/x"), basic("hub"));
        assert_eq!(find(&json, "r.example", "x"), basic("r"));
        let own = format!(r#"{{"auths":{{"docker.io":{}}}}}"#, auth("hub"));
        assert_eq!(find(&own, "docker.io", "library/x"), basic("hub"));
    }

    #[test]
    fn kinds_of_entries() {
        let entry =
            |json: &str| find(&format!(r#"{{"auths":{{"r.example":{json}}}}}"#), "r.example", "x");
        assert_eq!(entry("{}"), None);
        assert_eq!(entry(r#"{"username":"u","password":"p"}"#), basic("u"));
        assert_eq!(
            entry(r#"{"auth":"MDAwMDo=","identitytoken":"t"}"#),
            Some(Credential::Identity { user: "0000".into(), token: "t".into() })
        );
        assert_eq!(entry(r#"{"registrytoken":"t"}"#), Some(Credential::Access("t".into())));
        // robot$name, and a password with colons and NULs after it.
        let odd = base64::encode(b"robot$a+b:x:y\0\0");
        assert_eq!(
            entry(&format!(r#"{{"auth":"{odd}"}}"#)),
            Some(Credential::Basic { user: "robot$a+b".into(), password: "x:y".into() })
        );
    }

    #[test]
    fn bad_entries_name_no_secret() {
        for auth in ["!!!", "bm9jb2xvbg=="] {
            let file =
                parse(&format!(r#"{{"auths":{{"r":{{"auth":"{auth}"}}}}}}"#), false).unwrap();
            let error = Credentials::none().in_file(&file, "r", "x", &|_| {}).unwrap_err();
            assert_eq!(error.kind(), Kind::Auth);
            assert!(!error.to_string().contains(auth));
        }
        assert!(parse(r#"{"auths":{"r":"hush"}}"#, false).is_err());
        assert!(parse("", false).is_ok());
        assert!(parse("{\"auths\": null}", false).is_err() || parse("{}", false).is_ok());
        let old =
            parse(&format!(r#"{{"https://index.docker.io/v1/":{}}}"#, auth("u")), true).unwrap();
        assert!(entry_for(&old.auths, "docker.io", "x").is_some());
        assert!(!format!("{:?}", Credential::from_pair("u:hush")).contains("hush"));
    }

    #[test]
    fn a_store_that_fails_is_a_warning_a_helper_is_an_error() {
        let none = r#"{"credsStore":"there-is-none-of-this-name"}"#;
        let said = std::cell::RefCell::new(Vec::new());
        let file = parse(none, false).unwrap();
        let found =
            Credentials::none().in_file(&file, "r", "x", &|w| said.borrow_mut().push(w.to_owned()));
        assert_eq!(found.unwrap(), None);
        assert_eq!(said.borrow().len(), 1);
        let file = parse(r#"{"credHelpers":{"r":"there-is-none-of-this-name"}}"#, false).unwrap();
        assert!(Credentials::none().in_file(&file, "r", "x", &|_| {}).is_err());
        assert!(Credentials::none().in_file(&file, "s", "x", &|_| {}).unwrap().is_none());
    }

    #[test]
    fn the_order_of_files() {
        let env = |name: &str| match name {
            "HOME" => Some("/h".into()),
            "XDG_RUNTIME_DIR" => Some("/r".into()),
            _ => None,
        };
        let files = Credentials::from_environment(None, &env, 1000).files;
        let expected = [
            "/r/containers/auth.json",
            "/h/.config/containers/auth.json",
            "/h/.docker/config.json",
            "/h/.dockercfg",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        let env = |name: &str| (name == "REGISTRY_AUTH_FILE").then(|| "/x".into());
        let only = Credentials::from_environment(None, &env, 1000);
        assert_eq!(only.files, [PathBuf::from("/x")]);
        assert!(only.lookup("r", "x", true, &|_| {}).is_err());
    }

    #[test]
    fn the_command_line_is_for_the_registry_and_not_for_mirrors() {
        let all = Credentials::none().with_explicit(Some(Credential::from_pair("u:p")));
        assert_eq!(all.lookup("r", "x", true, &|_| {}).unwrap(), basic("u"));
        assert_eq!(all.lookup("mirror", "x", false, &|_| {}).unwrap(), None);
    }

    #[test]
    fn fuzz_auth_files() {
        let both = format!(
            r#"{{"auths":{{"r.example":{{"auth":"{}","identitytoken":"hush"}},"https://index.docker.io/v1/":{}}},"credsStore":"x","credHelpers":{{"a":"b"}}}}"#,
            base64::encode(b"me:hush"),
            auth("hub")
        );
        let good: [&[u8]; 2] =
            [both.as_bytes(), br#"{"r.example":{"username":"u","password":"hush"}}"#];
        let words: [&[u8]; 10] = [
            b"\"auth\":\"\"",
            b"null",
            b"{}",
            b"[]",
            b"\"auths\":",
            b"\"r.example\":",
            b"\"password\":\"hush\"",
            b"==",
            b"\\u0000",
            b"/",
        ];
        crate::fuzz::fuzz("auth files", &good, &words, crate::fuzz::as_it_is, |input| {
            let text = String::from_utf8_lossy(input);
            let mut answer = String::new();
            for legacy in [false, true] {
                let Ok(file) = parse(&text, legacy) else { continue };
                for host in ["r.example", "docker.io", "", "evil"] {
                    // A store or helper of the input is not run.
                    let Some(entry) = entry_for(&file.auths, host, "a/b") else { continue };
                    match entry.credential() {
                        Ok(found) => {
                            let shown = format!("{found:?}");
                            assert!(!shown.contains("hush") || shown.contains("(\""), "{shown}");
                            answer += host;
                            answer += if found.is_some() { " found " } else { " empty " };
                        }
                        Err(error) => {
                            assert!(!error.to_string().contains("hush"));
                            answer += &error.to_string();
                        }
                    }
                }
            }
            answer
        });
    }
}
