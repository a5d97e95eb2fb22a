//! Completion scripts for bash, zsh and fish, made from the tables.

use std::ffi::OsStr;
use std::fmt::Write as _;

use libcontainer::{Error, Result};

use super::command::{COMMANDS, Command, GLOBALS, Name};
use super::flag::{self, Flag, Kind};

/// A shell to complete for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shell {
    /// bash(1)
    Bash,
    /// zsh(1)
    Zsh,
    /// fish(1)
    Fish,
}

impl Shell {
    /// Reads the name of a shell.
    ///
    /// # Errors
    /// Another name than bash, zsh or fish.
    pub(crate) fn named(name: Option<&OsStr>) -> Result<Self> {
        match name.and_then(OsStr::to_str) {
            Some("bash") => Ok(Self::Bash),
            Some("zsh") => Ok(Self::Zsh),
            Some("fish") => Ok(Self::Fish),
            _ => {
                let name = name.unwrap_or_default().display().to_string();
                Err(Error::config(format!("no completion for the shell {name:?}"))
                    .hint("there is bash, zsh and fish"))
            }
        }
    }
}

/// The script for one shell.
pub(crate) fn completion(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        // zsh runs bash's completions; one script less that can be wrong.
        Shell::Zsh => format!(
            "#compdef skep\nautoload -U +X compinit && compinit\n\
             autoload -U +X bashcompinit && bashcompinit\n{}",
            bash()
        ),
        Shell::Fish => fish(),
    }
}

fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().filter(|command| !command.hidden)
}

fn shown(flags: &[&'static Flag]) -> impl Iterator<Item = &'static Flag> {
    flags.iter().copied().chain([&flag::HELP]).filter(|flag| !flag.hidden)
}

fn takes_id(command: &Command) -> bool {
    command.synopsis.starts_with("<container-id>") && !matches!(command.word, "create" | "run")
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

const BASH_HEAD: &str = r#"# bash completion for skep
_skep() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local i=1 command= commands options= words= root=()
    while [ "$i" -lt "$COMP_CWORD" ]; do
        case ${COMP_WORDS[i]} in
"#;

const BASH_TAIL: &str = r#"    esac
    case $cur in
        -*) COMPREPLY=($(compgen -W "$options" -- "$cur")) ;;
        *) [ -z "$words" ] || COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
    esac
}
complete -o default -F _skep skep
"#;

fn bash() -> String {
    let mut script = String::from(BASH_HEAD);
    let valued = GLOBALS.iter().filter(|flag| flag.kind != Kind::Bool && flag.long != "root");
    let valued: Vec<_> = valued.map(|flag| format!("--{0}|-{0}", flag.long)).collect();
    let _infallible = write!(
        script,
        "            --root|-root) root=(--root \"${{COMP_WORDS[i+1]}}\"); i=$((i+1)) ;;\n            \
         {}) i=$((i+1)) ;;\n            -*) ;;\n            \
         *) command=${{COMP_WORDS[i]}}; break ;;\n        esac\n        i=$((i+1))\n    done\n    case $prev in\n",
        valued.join("|")
    );
    let mut seen = Vec::new();
    let all = GLOBALS.iter().chain(commands().flat_map(|command| command.flags));
    for flag in all.filter(|flag| !flag.choices.is_empty()) {
        if !seen.contains(&flag.long) && flag.long != "rootless" {
            seen.push(flag.long);
            let _infallible = writeln!(
                script,
                "        --{}) COMPREPLY=($(compgen -W \"{}\" -- \"$cur\")); return ;;",
                flag.long,
                flag.choices.join(" ")
            );
        }
    }
    let words = joined(commands().map(|command| command.word.to_owned()));
    let globals = joined(shown(GLOBALS).map(|flag| format!("--{}", flag.long)));
    let _infallible = write!(
        script,
        "    esac\n    commands=\"{words}\"\n    case $command in\n        \
         '') options=\"{globals}\"; words=$commands ;;\n"
    );
    for command in commands() {
        let options = joined(shown(command.flags).map(|flag| format!("--{}", flag.long)));
        let words = match command.name {
            Name::Completion => "; words=\"bash zsh fish\"",
            Name::Help => "; words=$commands",
            _ if takes_id(command) => "; words=$(skep \"${root[@]}\" list -q 2>/dev/null)",
            _ => "",
        };
        let _infallible =
            writeln!(script, "        {}) options=\"{options}\"{words} ;;", command.word);
    }
    script.push_str(BASH_TAIL);
    script
}

fn fish() -> String {
    let mut script = String::from("# fish completion for skep\ncomplete -c skep -f\n");
    for flag in shown(GLOBALS) {
        fish_flag(&mut script, "__fish_use_subcommand", flag);
    }
    for command in commands() {
        let (word, about) = (command.word, quoted(command.about));
        let _infallible =
            writeln!(script, "complete -c skep -n __fish_use_subcommand -a {word} -d {about}");
        let condition = format!("__fish_seen_subcommand_from {word}");
        for flag in shown(command.flags) {
            fish_flag(&mut script, &condition, flag);
        }
        if takes_id(command) {
            let _infallible = writeln!(
                script,
                "complete -c skep -n '{condition}' -a '(skep list -q 2>/dev/null)' -d container"
            );
        }
    }
    script
}

fn fish_flag(script: &mut String, condition: &str, flag: &Flag) {
    let _infallible = write!(script, "complete -c skep -n '{condition}' -l {}", flag.long);
    if let Some(letter) = flag.short {
        let _infallible = write!(script, " -s {}", char::from(letter));
    }
    if !flag.choices.is_empty() {
        let _infallible = write!(script, " -x -a {}", quoted(&flag.choices.join(" ")));
    } else if flag.kind != Kind::Bool {
        script.push_str(" -r -F");
    }
    let _infallible = writeln!(script, " -d {}", quoted(flag.help));
}

/// fish(1): in single quotes only the quote and the backslash are special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
