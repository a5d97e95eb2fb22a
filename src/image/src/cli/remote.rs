//! Registries: the flags that say how they are asked.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::progress::Progress;
use crate::error::{Error, Result};
use crate::event::{Event, Listener};
use crate::reference::Reference;
use crate::registry::{Credential, Registry, Say, Settings};

/// Which end of a copy a registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    From,
    /// Written, and whether what is read is in a registry on another host: what is for that one is not for this one.
    To {
        from_another: bool,
    },
}

/// What the command line says of registries.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    from: Option<String>,
    to: Option<String>,
    authfile: Option<PathBuf>,
    nobody: bool,
    verify_from: Option<bool>,
    verify_to: Option<bool>,
    ca: Vec<PathBuf>,
    cert_dir: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    retries: Option<u64>,
    progress: Progress,
}

pub(super) fn flags(command: Command) -> Command {
    let flag = |name: &'static str, value: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name(value).help(help);
        arg.global(true).help_heading("Registries")
    };
    let verify = |name: &'static str, help: &'static str| {
        flag(name, "BOOL", help)
            .value_parser(clap::value_parser!(bool))
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    };
    let file = |name: &'static str, help: &'static str| {
        flag(name, "FILE", help).value_parser(clap::value_parser!(PathBuf))
    };
    command
        .arg(
            flag(
                "creds",
                "USER[:PASSWORD]",
                "credentials for the registry that is read, or for the only one",
            )
            .alias("src-creds"),
        )
        .arg(flag(
            "dest-creds",
            "USER[:PASSWORD]",
            "credentials for the registry that is written [default: as --creds, unless another one is read]",
        ))
        .arg(file(
            "authfile",
            "the file with credentials, instead of containers' auth.json and Docker's config.json",
        ))
        .arg(
            Arg::new("no-creds")
                .long("no-creds")
                .help("ask as nobody, whatever the files say")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["creds", "dest-creds", "authfile"])
                .global(true)
                .help_heading("Registries"),
        )
        .arg(
            verify(
                "tls-verify",
                "false: trust any certificate, and speak plain HTTP where there is no TLS; true: no plain HTTP even on this machine",
            )
            .alias("src-tls-verify"),
        )
        .arg(verify("dest-tls-verify", "the same for the registry that is written [default: as --tls-verify]"))
        .arg(
            flag("cert-dir", "DIR", "a directory with authorities (*.crt) and certificates of one's own (*.cert, *.key)")
                .value_parser(clap::value_parser!(PathBuf))
                .alias("src-cert-dir")
                .alias("dest-cert-dir"),
        )
        .arg(
            file("ca-file", "an authority to trust besides the system's")
                .action(ArgAction::Append),
        )
        .arg(file("cert", "a certificate of one's own, with --key"))
        .arg(file("key", "its private key"))
        .arg(
            flag("retries", "N", "how often what fails is tried again [default: 4]")
                .value_parser(clap::value_parser!(u64).range(0..=100)),
        )
}

impl Remote {
    pub(super) fn new(matches: &ArgMatches, progress: Progress) -> Self {
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
        let verify = |name: &str| matches.get_one::<bool>(name).copied();
        Self {
            from: text("creds"),
            to: text("dest-creds"),
            authfile: path("authfile"),
            nobody: matches.get_flag("no-creds"),
            verify_from: verify("tls-verify"),
            verify_to: verify("dest-tls-verify").or_else(|| verify("tls-verify")),
            ca: matches.get_many::<PathBuf>("ca-file").into_iter().flatten().cloned().collect(),
            cert_dir: path("cert-dir"),
            cert: path("cert"),
            key: path("key"),
            retries: matches.get_one::<u64>("retries").copied(),
            progress,
        }
    }

    /// What a client at that end is told.
    pub(super) fn settings(&self, end: End) -> Result<Settings> {
        let uid = nix::unistd::geteuid().as_raw();
        let mut settings =
            Settings::from_environment(&|name| std::env::var_os(name), uid, self.authfile.clone())?;
        let (creds, verify) = match end {
            End::From => (self.from.as_ref(), self.verify_from),
            End::To { from_another: true } => (self.to.as_ref(), self.verify_to),
            End::To { from_another: false } => {
                (self.to.as_ref().or(self.from.as_ref()), self.verify_to)
            }
        };
        if let Some(pair) = creds {
            settings.credentials = settings
                .credentials
                .map(|all| all.with_explicit(Some(Credential::from_pair(pair))));
        }
        if self.nobody {
            settings.credentials = None;
        }
        settings.tls_verify = verify;
        settings.tls.ca.clone_from(&self.ca);
        settings.tls.directory.clone_from(&self.cert_dir);
        settings.tls.client = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            _ => return Err(Error::usage("--cert and --key go together")),
        };
        if let Some(retries) = self.retries {
            settings.retry.attempts = u32::try_from(retries).unwrap_or(100) + 1;
        }
        let progress = self.progress.clone();
        settings.say = Say(Arc::new(move |text| progress.event(Event::Warning(text))));
        Ok(settings)
    }

    /// A client for what is read.
    pub(super) fn registry(&self, reference: &Reference) -> Result<Registry> {
        Registry::new(reference, self.settings(End::From)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(arguments: &[&str]) -> Remote {
        let command = super::super::program();
        let matches = command.try_get_matches_from([&["skep-image"], arguments].concat()).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        Remote::new(matches, Progress::new(true, false))
    }

    fn who(arguments: &[&str], end: End) -> String {
        format!("{:?}", remote(arguments).settings(end).unwrap().credentials)
    }

    #[test]
    fn credentials_go_where_they_are_meant_to() {
        let one = ["copy", "--creds", "me:hush", "oci:a", "docker://b/c"];
        let alone = End::To { from_another: false };
        let other = End::To { from_another: true };
        assert!(who(&one, End::From).contains("Basic(\"me\")"));
        assert!(who(&one, alone).contains("Basic(\"me\")"));
        assert!(!who(&one, other).contains("Basic"));
        let two = [
            "copy",
            "--src-creds=me:hush",
            "--dest-creds=you:hush",
            "docker://a/b",
            "docker://c/d",
        ];
        assert!(who(&two, End::From).contains("Basic(\"me\")"));
        assert!(who(&two, other).contains("Basic(\"you\")"));
        assert_eq!(who(&["tags", "--no-creds", "a/b"], End::From), "None");
    }

    #[test]
    fn each_end_is_verified_as_it_is_said() {
        let verify = |arguments: &[&str]| {
            let remote = remote(arguments);
            let of = |end| remote.settings(end).unwrap().tls_verify;
            (of(End::From), of(End::To { from_another: true }))
        };
        assert_eq!(verify(&["copy", "a", "b"]), (None, None));
        assert_eq!(verify(&["copy", "--tls-verify=false", "a", "b"]), (Some(false), Some(false)));
        assert_eq!(
            verify(&["copy", "--src-tls-verify=false", "--dest-tls-verify", "a", "b"]),
            (Some(false), Some(true))
        );
        assert!(remote(&["pull", "--cert=x", "a"]).settings(End::From).is_err());
    }
}
