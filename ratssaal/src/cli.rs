//! The command line. The flags of `serve`, `allocator` and `operator` are made from `SETTINGS`, so that help, file, environment and documentation
//! cannot differ.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

use crate::settings::{Kind, Setting, allocator_settings, client_settings, operator_settings, serve_settings};
use crate::{certificate, doctor, load};

/// What `serve --help` says after the flags.
const SOURCES: &str = "\
A setting comes from, lightest first: its default, the configuration file, the environment, the flag.
In a TOML file `http.bind` is `bind` under `[http]`; in the environment it is RATSSAAL_HTTP__BIND (two underscores).
API keys have no flag, since other users of the machine can see flags: put them in the file under [keys]
(`ratssaal keys` prints a fresh pair), or in the environment as RATSSAAL_KEYS__<name>=<secret>.
Durations are written 500ms, 20s, 5m, 2h, 1d; sizes 512KiB, 4MiB, 1GiB.

SIGTERM or Ctrl+C ends meetings in order, a second one stops at once. Exit status: 0 ended in order, 1 failed while
running, 64 wrong command line or configuration.";

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("ratssaal")
        .about("Video-conferencing for cities and counties, on their own machines")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            serve(),
            allocator(),
            operator(),
            status(),
            bridge(),
            token(),
            keys(),
            crd(),
            certificate(),
            doctor::command(),
            load::command(),
        ])
}

fn serve() -> Command {
    let command = Command::new("serve")
        .about("Run the whole product on this machine: web client, signalling, media, room state")
        .after_help(SOURCES)
        .arg(config_file())
        .arg(dev("Use the built-in key pair devkey / secret-secret-secret-secret-secret; only on a loopback address"));
    serve_settings().fold(command, with_flag)
}

fn allocator() -> Command {
    let command = Command::new("allocator")
        .about("Run one of a cluster's allocators: who sits where, and each room's log, in a shared Redis")
        .after_help(
            "Any number of allocators may run on one Redis; servers are given all their addresses (--allocator).\n\
             Example: ratssaal allocator --redis redis://localhost --listen 127.0.0.1:7890",
        )
        .arg(config_file());
    allocator_settings().fold(command, with_flag)
}

fn operator() -> Command {
    let command = Command::new("operator")
        .about("Run the Kubernetes operator: makes of each VideoConference bridges, allocators and what they need")
        .after_help(
            "Finds the API server by its Pod's account, or by KUBECONFIG. The chart in charts/ratssaal runs it with the rights it\n\
             needs. Any number may run: one acts, the others wait.\n\
             Example: ratssaal operator --operator-image registry.example/ratssaal:0.1.0",
        )
        .arg(config_file());
    operator_settings().fold(command, with_flag)
}

fn status() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let command = Command::new("status")
        .about("Show the cluster's bridges and rooms, as the allocators see them")
        .after_help(
            "Example: ratssaal status --watch --allocator http://127.0.0.1:7890\n\
             With --redis instead of --allocator it reads the shared Redis itself. The table is German where LANG says so.",
        )
        .arg(config_file())
        .arg(flag("watch", "Go on showing, once a second, until Ctrl+C"))
        .arg(flag("json", "One line of JSON instead of the table; with --watch one a second"));
    client_settings().fold(command, with_flag)
}

fn bridge() -> Command {
    let name =
        || Arg::new("bridge").value_name("NAME").required(true).help("The bridge, as `ratssaal status` names it");
    let within = Arg::new("within").long("within").value_name("DURATION");
    let within = within.help("Who is not moved by then is told to reconnect; without: as long as needed");
    let wait = Arg::new("wait").long("wait").action(ArgAction::SetTrue).help("Return only when nobody is left there");
    let drain = Command::new("drain")
        .about("Seat nobody new on a bridge and move its participants to others, before it is stopped")
        .after_help("Example: ratssaal bridge drain rathaus-2 --within 10m --wait --allocator https://a:7890")
        .args([config_file(), name(), within, wait]);
    let undrain = Command::new("undrain").about("Seat participants on a bridge again").args([config_file(), name()]);
    Command::new("bridge")
        .about("Take a bridge of the cluster out of service, or back")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([drain, undrain].map(|command| client_settings().fold(command, with_flag)))
}

fn with_flag(command: Command, setting: &'static Setting) -> Command {
    let arg = Arg::new(setting.key)
        .long(setting.flag)
        .value_name(setting.value)
        .help_heading(setting.heading())
        .help(format!("{} [{}; default: {}]", setting.help, setting.key, setting.default));
    command.arg(match setting.kind {
        Kind::Value => arg,
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
    })
}

fn token() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let value = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("token")
        .about("Print an access token (JWT) for tests and integrations")
        .after_help(
            "Example: ratssaal token --dev --room rat --identity anna --name 'Anna Beispiel'\n\
             Whoever has the token may do what it says until it expires: hand it on like a password.",
        )
        .arg(config_file())
        .arg(dev("Sign with the built-in key pair of `serve --dev`"))
        .arg(value("api-key", "NAME", "Sign with this key of [keys]; needed only if there are several"))
        .arg(value("room", "NAME", "Let the holder join this room (needs --identity); with --admin, administer it"))
        .arg(value("identity", "ID", "Who the holder is: unique in the room, not shown"))
        .arg(value("name", "NAME", "The name others see"))
        .arg(value("ttl", "DURATION", "How long the token is valid").default_value("6h"))
        .arg(flag("admin", "May mute, remove and end in --room (roomAdmin)"))
        .arg(flag("create", "May create and end rooms over the server API (roomCreate)"))
        .arg(flag("list", "May list rooms over the server API (roomList)"))
        .arg(flag("hidden", "Is not shown to others"))
        .arg(flag("recorder", "Is a recorder"))
        .arg(flag("no-publish", "May not send audio, video or screen"))
        .arg(flag("no-subscribe", "May not receive audio, video or screen"))
        .arg(flag("no-data", "May not send chat and other data"))
        .arg(flag("own-metadata", "May change its own name, metadata and attributes"))
}

fn keys() -> Command {
    Command::new("keys")
        .about("Print a fresh API key pair, ready for the configuration file")
        .after_help("Example: ratssaal keys > ratssaal.toml && ratssaal serve --config ratssaal.toml")
}

fn certificate() -> Command {
    let many = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).action(ArgAction::Append).help(help)
    };
    Command::new("certificate")
        .about("Make a certificate for a process of the cluster, and the cluster's authority if there is none yet")
        .after_help(
            "Example: ratssaal certificate ca/ rathaus-1 --role bridge --host rathaus-1.example.de --host 192.0.2.7\n\
             Writes ca/rathaus-1.pem and .key and prints the configuration that uses them. ca/ca.key makes certificates that\n\
             all processes believe: keep the folder on one machine, and copy only ca.pem and each process's own two files.",
        )
        .arg(Arg::new("folder").value_name("FOLDER").required(true).value_parser(value_parser!(PathBuf)).help("Where"))
        .arg(Arg::new("name").value_name("NAME").required(true).help("Name of the two files"))
        .arg(many("role", "ROLE", "What its holder may be; several for several").required(true).value_parser(certificate::ROLES))
        .arg(many("host", "HOST", "Host name or address it is reached at; several for several [default: NAME]"))
        .arg(Arg::new("days").long("days").value_name("NUMBER").default_value("365").help("How long it is valid"))
}

fn crd() -> Command {
    Command::new("crd")
        .about("Print the definition of the Kubernetes resource VideoConference")
        .after_help("Example: ratssaal crd | kubectl apply --server-side -f -")
}

fn config_file() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env("RATSSAAL_CONFIG")
        .value_parser(value_parser!(PathBuf))
        .help("Configuration file, TOML or YAML (.yaml, .yml)")
}

fn dev(help: &'static str) -> Arg {
    Arg::new("dev").long("dev").action(ArgAction::SetTrue).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn switches_may_stand_alone_or_say_false() {
        for (args, expected) in [
            (&["ratssaal", "serve", "--plain"][..], Some("true")),
            (&["ratssaal", "serve", "--plain=false"][..], Some("false")),
            (&["ratssaal", "serve"][..], None),
        ] {
            let matches = command().try_get_matches_from(args).unwrap();
            let serve = matches.subcommand_matches("serve").unwrap();
            assert_eq!(serve.get_one::<String>("http.plain").map(String::as_str), expected);
        }
    }
}
