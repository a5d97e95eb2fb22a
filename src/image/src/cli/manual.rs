//! Manual pages and completions, made of the command line itself. They are for who packages the program: `hack/man.sh`.

use std::fmt::Write as _;

use clap::{Arg, ArgMatches, Command};

use super::{Context, program};
use crate::error::{Error, Result};

/// Commands that the runtime has too, and has pages for.
const SHARED: [&str; 2] = ["run", "create"];

pub(super) fn man_command() -> Command {
    Command::new("man")
        .about("print a manual page; without COMMAND, what there are pages for")
        .hide(true)
        .arg(Arg::new("command").value_name("COMMAND").help("a command, or image for all of them"))
}

pub(super) fn completion_command() -> Command {
    Command::new("completion")
        .about("print what completes the commands of images, to follow what skep completion prints")
        .hide(true)
        .arg(Arg::new("shell").required(true).value_parser(["bash", "fish"]))
}

pub(super) fn man(matches: &ArgMatches, context: &Context) -> Result<()> {
    let program = built();
    let Some(name) = matches.get_one::<String>("command") else {
        context.print("image")?;
        return commands(&program)
            .filter(|command| !SHARED.contains(&command.get_name()))
            .try_for_each(|command| context.print(command.get_name()));
    };
    let page = if name == "image" {
        overview(&program)
    } else {
        let command = commands(&program).find(|command| command.get_name() == name);
        page(command.ok_or_else(|| Error::usage(format!("there is no command {name}")))?)
    };
    context.print(page.trim_end())
}

pub(super) fn completion(matches: &ArgMatches, context: &Context) -> Result<()> {
    let program = built();
    let script = match matches.get_one::<String>("shell").map(String::as_str) {
        Some("fish") => fish(&program),
        _ => bash(&program),
    };
    context.print(script.trim_end())
}

fn built() -> Command {
    let mut program = program();
    // Fills in the flags that all commands have.
    program.build();
    program
}

fn commands(program: &Command) -> impl Iterator<Item = &Command> {
    program
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_long().is_some())
}

/// What roff(7) takes for its own, made text.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text.lines().map(|line| {
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn heading(name: &str, about: &str) -> String {
    format!(
        ".TH {} 8 \"\" \"skep {}\" \"System Manager's Manual\"\n.SH NAME\n{} \\- {}\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        escape(name),
        escape(about)
    )
}

fn spelling(arg: &Arg) -> String {
    let mut text = String::new();
    if let Some(short) = arg.get_short() {
        let _infallible = write!(text, "\\-{short}, ");
    }
    let _infallible = write!(text, "\\-\\-{}", escape(arg.get_long().unwrap_or_default()));
    if arg.get_action().takes_values() {
        let names = arg.get_value_names().unwrap_or_default();
        let value = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let _infallible = write!(text, " \\fI{}\\fR", escape(&value));
    }
    text
}

fn list<'a>(page: &mut String, title: &str, args: impl Iterator<Item = &'a Arg>) {
    let mut empty = true;
    for arg in args {
        if empty {
            let _infallible = writeln!(page, ".SH {title}");
            empty = false;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let choices = arg.get_possible_values();
        let names: Vec<&str> = choices.iter().map(clap::builder::PossibleValue::get_name).collect();
        let choices = if arg.get_action().takes_values() && !names.is_empty() {
            format!(" ({})", names.join(", "))
        } else {
            String::new()
        };
        let _infallible =
            writeln!(page, ".TP\n.B {}\n{}{}.", spelling(arg), escape(&help), escape(&choices));
    }
}

fn synopsis(page: &mut String, command: &Command, path: &str) {
    let _infallible = write!(page, ".B skep {}\n[options]", escape(path));
    for arg in command.get_positionals() {
        let name = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
        let name = escape(&name.unwrap_or_default());
        let last = if arg.is_last_set() { "\\-\\- " } else { "" };
        let many =
            if arg.get_num_args().is_some_and(|count| count.max_values() > 1) { "..." } else { "" };
        let text = format!("{last}\\fI{name}\\fR{many}");
        let _infallible =
            if arg.is_required_set() { write!(page, " {text}") } else { write!(page, " [{text}]") };
    }
    page.push('\n');
}

/// skep-COMMAND(8).
fn page(command: &Command) -> String {
    let name = command.get_name();
    let mut page = heading(&format!("skep-{name}"), &about(command));
    page.push_str(".SH SYNOPSIS\n");
    let below: Vec<&Command> = commands(command).collect();
    if below.is_empty() {
        synopsis(&mut page, command, name);
    }
    for (number, inner) in below.iter().enumerate() {
        if number > 0 {
            page.push_str(".br\n");
        }
        synopsis(&mut page, inner, &format!("{name} {}", inner.get_name()));
    }
    let arguments = command.get_positionals().filter(|arg| arg.get_help().is_some());
    let mut empty = true;
    for arg in arguments {
        if empty {
            page.push_str(".SH DESCRIPTION\n");
            empty = false;
        }
        let name = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let _infallible =
            writeln!(page, ".TP\n.I {}\n{}.", escape(&name.unwrap_or_default()), escape(&help));
    }
    list(&mut page, "OPTIONS", flags(command).filter(|arg| !arg.is_global_set()));
    for inner in below {
        let title = format!("{} {}", name.to_uppercase(), inner.get_name().to_uppercase());
        let _infallible = writeln!(page, ".SH {title}\n{}.", escape(&about(inner)));
        list(
            &mut page,
            &format!("OPTIONS OF {title}"),
            flags(inner).filter(|arg| !arg.is_global_set()),
        );
    }
    page.push_str(".SH SEE ALSO\n.BR skep\\-image (8),\n.BR skep (8)\n");
    page
}

/// skep-image(8).
fn overview(program: &Command) -> String {
    let mut page = heading("skep-image", &about(program));
    page.push_str(".SH SYNOPSIS\n.B skep\ncommand [options] [arguments...]\n.SH DESCRIPTION\n");
    page.push_str(
        "The commands of images are the program skep\\-image's, which skep executes. It is found beside skep or in libexec/skep, \
         never through $PATH.\n.PP\n",
    );
    let help = program.get_after_help().map(ToString::to_string).unwrap_or_default();
    page.push_str(&escape(&help).replace("\n\n", "\n.PP\n"));
    page.push_str("\n.SH COMMANDS\n");
    for command in commands(program) {
        let name = command.get_name();
        let shown = if SHARED.contains(&name) {
            format!(".B skep {name} \\-\\-image")
        } else {
            format!(".BR skep\\-{name} (8)")
        };
        let _infallible = writeln!(page, ".TP\n{shown}\n{}.", escape(&about(command)));
    }
    list(&mut page, "OPTIONS OF ALL COMMANDS", flags(program));
    for name in SHARED {
        if let Some(command) = commands(program).find(|command| command.get_name() == name) {
            let title = format!("OPTIONS OF {} --image", name.to_uppercase());
            list(&mut page, &escape(&title), flags(command).filter(|arg| !arg.is_global_set()));
        }
    }
    page.push_str(
        ".SH FILES\n.TP\n.I /var/lib/skep/images\nThe store of root, an OCI layout; \\fI~/.local/share/skep/images\\fR for others.\n\
         .SH SEE ALSO\n.BR skep (8)\n",
    );
    page
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// Follows skep's own script: what is no command of an image is left to that.
fn bash(program: &Command) -> String {
    let own: Vec<&Command> =
        commands(program).filter(|command| !SHARED.contains(&command.get_name())).collect();
    let names = words(own.iter().map(|command| command.get_name()));
    // Those of run and create are skep's, and with --image ours as well.
    let shared = commands(program).filter(|command| SHARED.contains(&command.get_name()));
    let mut more: Vec<String> = shared
        .flat_map(flags)
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
        .collect();
    more.sort();
    more.dedup();
    let mut script = format!(
        "_skep_images() {{\n    local cur=${{COMP_WORDS[COMP_CWORD]}} i=1 command= options= words=\n    \
         while [ \"$i\" -lt \"$COMP_CWORD\" ]; do\n        case ${{COMP_WORDS[i]}} in\n            \
         {}) command=${{COMP_WORDS[i]}}; break ;;\n            -*) ;;\n            *) break ;;\n        esac\n        \
         i=$((i+1))\n    done\n    case $command in\n        \
         '') _skep\n            case $cur in\n                \
         -*) case \" ${{COMP_WORDS[*]}} \" in *' --image'*) COMPREPLY+=($(compgen -W \"{}\" -- \"$cur\")) ;; esac ;;\n                \
         *) [ \"$i\" -lt \"$COMP_CWORD\" ] || COMPREPLY+=($(compgen -W \"{names}\" -- \"$cur\")) ;;\n            \
         esac\n            return ;;\n",
        names.replace(' ', "|"),
        more.join(" ")
    );
    for command in own {
        let mut options: Vec<String> = flags(command)
            .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
            .collect();
        for inner in commands(command) {
            options.extend(
                flags(inner).filter_map(|arg| arg.get_long().map(|long| format!("--{long}"))),
            );
        }
        options.sort();
        options.dedup();
        let below = words(commands(command).map(Command::get_name));
        let _infallible = writeln!(
            script,
            "        {}) options=\"{}\"; words=\"{below}\" ;;",
            command.get_name(),
            options.join(" ")
        );
    }
    script.push_str(
        "    esac\n    case $cur in\n        -*) COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")) ;;\n        \
         *) [ -z \"$words\" ] || COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n    esac\n}\n\
         complete -o default -F _skep_images skep\n",
    );
    script
}

fn fish(program: &Command) -> String {
    let quoted = |text: String| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut script = String::new();
    for command in commands(program) {
        let name = command.get_name();
        if !SHARED.contains(&name) {
            let _infallible = writeln!(
                script,
                "complete -c skep -n __fish_use_subcommand -a {name} -d {}",
                quoted(about(command))
            );
        }
        let seen = format!("'__fish_seen_subcommand_from {name}'");
        for inner in commands(command) {
            let (word, about) = (inner.get_name(), quoted(about(inner)));
            let _infallible = writeln!(script, "complete -c skep -n {seen} -a {word} -d {about}");
        }
        for arg in flags(command).chain(commands(command).flat_map(flags)) {
            let help = quoted(arg.get_help().map(ToString::to_string).unwrap_or_default());
            let value = if arg.get_action().takes_values() { " -r" } else { "" };
            let long = arg.get_long().unwrap_or_default();
            let _infallible =
                writeln!(script, "complete -c skep -n {seen} -l {long}{value} -d {help}");
        }
        if !SHARED.contains(&name) {
            let _infallible = writeln!(script, "complete -c skep -n {seen} -F");
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page_and_is_completed() {
        let program = built();
        let overview = overview(&program);
        let (bash, fish) = (bash(&program), fish(&program));
        for command in commands(&program) {
            let name = command.get_name();
            assert!(
                overview.contains(&format!("skep\\-{name}")) || SHARED.contains(&name),
                "{name}"
            );
            assert!(fish.contains(&format!("__fish_seen_subcommand_from {name}")), "{name}");
            assert!(
                SHARED.contains(&name) || bash.contains(&format!("        {name}) ")),
                "{name}"
            );
            let page = page(command);
            for arg in flags(command).filter(|arg| !arg.is_global_set()) {
                assert!(page.contains(&spelling(arg)), "{name} {}", arg.get_id());
                assert!(arg.get_help().is_some(), "{name} {}", arg.get_id());
            }
        }
        assert!(overview.contains("\\-\\-store"));
    }
}
