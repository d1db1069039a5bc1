//! How flags and their environment variables are read: once for all of them.

use clap::builder::Resettable;
use clap::{Arg, ArgAction, Command};

/// Has a command and its subcommands take an empty variable for an absent one, which is what files of settings leave
/// where nothing is chosen, and read every switch by [`parse_switch`].
pub fn prepare(command: Command) -> Command {
    command.mut_args(prepare_arg).mut_subcommands(prepare)
}

fn prepare_arg(arg: Arg) -> Arg {
    let is_empty = |name| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let arg = match arg.get_env().is_some_and(is_empty) {
        // clap has read the variable already.
        true => arg.env(Resettable::Reset),
        false => arg,
    };
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(parse_switch),
        _ => arg,
    }
}

/// Reads what a variable says of a switch.
fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("expected true or false, 1 or 0, yes or no, on or off"),
    }
}

/// Reads the address of a server, of a list mostly, with blanks around it or without.
///
/// # Errors
/// What is wrong with it.
pub fn parse_address(text: &str) -> Result<String, &'static str> {
    let address = text.trim();
    if address.contains("://") {
        return Err("expected host:port, without http:// or another scheme");
    }
    let (host, port) = address.rsplit_once(':').unwrap_or_default();
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || host.contains(char::is_whitespace) || !is_port {
        return Err("expected host:port");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("expected host:port, with an IPv6 address in brackets");
    }
    Ok(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["kafka-0.kafka:9092", "[::1]:9092", "127.0.0.1:1"] {
            assert_eq!(parse_address(good).as_deref(), Ok(good));
            assert_eq!(parse_address(&format!(" {good}\t\n")).as_deref(), Ok(good));
        }
        for bad in [
            "",
            " ",
            "kafka",
            "kafka:",
            ":9092",
            "kafka:0",
            "kafka:99999",
            "kafka: 9092",
            "kaf ka:9092",
            "::1:9092",
            "[::1]",
            "http://kafka:9092",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn switches_are_on_or_off() {
        for (text, is_on) in [("1", true), (" Yes ", true), ("OFF", false), ("no", false)] {
            assert_eq!(parse_switch(text), Ok(is_on), "{text}");
        }
        for text in ["", "2", "enable", "y es"] {
            assert!(parse_switch(text).is_err(), "{text}");
        }
    }
}
