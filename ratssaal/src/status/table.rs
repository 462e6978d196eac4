//! The table of `ratssaal status` in German or English.

use std::env;
use std::fmt::Write as _;

use super::view::{Bridge, Room, View};

/// Longest text in a cell.
const WIDEST: usize = 40;

/// The language of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    German,
    English,
}

impl Language {
    /// As `LC_ALL`, `LC_MESSAGES` or `LANG` say, the first that is set; English unless that begins with `de`.
    pub(crate) fn of_environment() -> Self {
        let set = |name: &&str| env::var(name).ok().filter(|value| !value.is_empty());
        Self::of(["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(set).as_deref())
    }

    fn of(locale: Option<&str>) -> Self {
        if locale.is_some_and(|locale| locale.starts_with("de")) { Self::German } else { Self::English }
    }

    fn choose<T>(self, german: T, english: T) -> T {
        match self {
            Self::German => german,
            Self::English => english,
        }
    }
}

/// The view as two tables, with at most so many rooms (the largest).
pub(crate) fn render(view: &View, language: Language, most_rooms: usize) -> String {
    let mut text = String::new();
    if view.bridges.is_empty() {
        text += language.choose("Keine Bridge ist angemeldet.\n", "No bridge is attached.\n");
    } else {
        let german =
            ["BRIDGE", "STANDORT", "ZUSTAND", "PLÄTZE", "LAST", "CPU", "EIN", "AUS", "VERLUST", "RÄUME", "VERSION"];
        let english = ["BRIDGE", "SITE", "STATE", "SEATS", "LOAD", "CPU", "IN", "OUT", "DROPPED", "ROOMS", "VERSION"];
        let rows = view.bridges.iter().map(|bridge| bridge_row(bridge, language)).collect();
        text += &columns(&language.choose(german, english), rows);
    }
    text.push('\n');
    if view.rooms.is_empty() {
        text += language.choose("Kein Raum ist offen.\n", "No room is open.\n");
        return text;
    }
    let mut rooms: Vec<&Room> = view.rooms.iter().collect();
    if rooms.len() > most_rooms {
        rooms.sort_by_key(|room| std::cmp::Reverse(room.participants));
        rooms.truncate(most_rooms);
    }
    let (german, english) =
        (["RAUM", "TEILNEHMENDE", "RELAIS", "BRIDGES"], ["ROOM", "PARTICIPANTS", "RELAYS", "BRIDGES"]);
    let shown = rooms.len();
    text += &columns(&language.choose(german, english), rows_of(rooms));
    let hidden = view.rooms.len() - shown;
    if hidden > 0 {
        // Writing into a string cannot fail.
        let _ = match language {
            Language::German => writeln!(text, "… und {hidden} weitere Räume"),
            Language::English => writeln!(text, "… and {hidden} more rooms"),
        };
    }
    text
}

fn bridge_row(bridge: &Bridge, language: Language) -> Vec<String> {
    let state = match (bridge.state, language) {
        ("silent", Language::German) => format!("stumm seit {} s", bridge.silent_ms / 1000),
        ("silent", Language::English) => format!("silent for {} s", bridge.silent_ms / 1000),
        ("ready", Language::German) => "bereit".into(),
        ("draining", Language::German) => "wird geleert".into(),
        ("drained", Language::German) => "leer".into(),
        ("gone", Language::German) => "beendet".into(),
        ("unknown", Language::German) => "unbekannt".into(),
        (state, _) => state.into(),
    };
    vec![
        short(&bridge.name),
        short(&bridge.site),
        state,
        format!("{}/{}", bridge.seats, bridge.seat_limit),
        percent(bridge.load_permille),
        percent(bridge.cpu_permille),
        bits(bridge.receive_bps),
        bits(bridge.send_bps),
        format!("{} ‰", bridge.drop_permille),
        bridge.rooms.to_string(),
        short(&bridge.version),
    ]
}

fn rows_of(rooms: Vec<&Room>) -> Vec<Vec<String>> {
    let row = |room: &Room| {
        let bridges: Vec<String> =
            room.bridges.iter().map(|(name, seats)| format!("{} {seats}", short(name))).collect();
        vec![short(&room.name), room.participants.to_string(), room.relays.to_string(), bridges.join(", ")]
    };
    rooms.into_iter().map(row).collect()
}

/// Lines with the cells of each column under one another.
fn columns(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = head.iter().map(|text| width(text)).collect();
    for row in &rows {
        widths.iter_mut().zip(row).for_each(|(widest, cell)| *widest = width(cell).max(*widest));
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    line(head.to_vec()) + &rows.collect::<String>()
}

fn short(text: &str) -> String {
    if text.is_empty() {
        return "–".into();
    }
    // The allocator takes no control characters, but a terminal should not have to trust it.
    let clean = text.chars().filter(|c| !c.is_control());
    if text.chars().count() <= WIDEST { clean.collect() } else { clean.take(WIDEST - 1).chain(['…']).collect() }
}

fn percent(permille: u32) -> String {
    format!("{} %", permille.div_ceil(10))
}

fn bits(per_second: u64) -> String {
    match per_second {
        0..1_000_000 => format!("{} kbit/s", per_second / 1000),
        1_000_000..10_000_000_000 => format!("{} Mbit/s", per_second / 1_000_000),
        _ => format!("{} Gbit/s", per_second / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let bridge = |name: &str, site: &str, state| Bridge {
            name: name.into(),
            site: site.into(),
            state,
            version: "0.1.0".into(),
            seats: 12,
            seat_limit: 190,
            load_permille: 63,
            cpu_permille: 31,
            receive_bps: 900_000,
            send_bps: 31_000_000,
            rooms: 1,
            silent_ms: 4500,
            ..Bridge::default()
        };
        let room = |name: &str, participants| Room {
            name: name.into(),
            sid: "RM_1".into(),
            created_ms: 1,
            participants,
            bridges: [("eins".to_owned(), participants - 1), ("zwei".to_owned(), 1)].into(),
            relays: 1,
        };
        View {
            bridges: vec![bridge("eins", "rathaus", "ready"), bridge("zwei", "", "silent")],
            rooms: vec![room("rat", 12), room("ausschuss für bauen", 30)],
        }
    }

    #[test]
    fn german() {
        let text = render(&view(), Language::German, 20);
        let expected = "\
BRIDGE  STANDORT  ZUSTAND         PLÄTZE  LAST  CPU  EIN         AUS        VERLUST  RÄUME  VERSION
eins    rathaus   bereit          12/190  7 %   4 %  900 kbit/s  31 Mbit/s  0 ‰      1      0.1.0
zwei    –         stumm seit 4 s  12/190  7 %   4 %  900 kbit/s  31 Mbit/s  0 ‰      1      0.1.0

RAUM                 TEILNEHMENDE  RELAIS  BRIDGES
rat                  12            1       eins 11, zwei 1
ausschuss für bauen  30            1       eins 29, zwei 1
";
        assert_eq!(text, expected);
    }

    #[test]
    fn english_with_the_largest_rooms_only() {
        let text = render(&view(), Language::English, 1);
        assert!(text.contains("silent for 4 s") && text.contains("ausschuss") && !text.contains("rat  "), "{text}");
        assert!(text.ends_with("… and 1 more rooms\n"), "{text}");
    }

    #[test]
    fn nothing_is_said_in_words() {
        let empty = View { bridges: vec![], rooms: vec![] };
        assert_eq!(render(&empty, Language::English, 1), "No bridge is attached.\n\nNo room is open.\n");
        assert!(render(&empty, Language::German, 1).contains("Kein Raum"));
    }

    #[test]
    fn hostile_names_do_not_reach_the_terminal() {
        let name = format!("\x1b[2J{}", "x".repeat(300));
        let shown = short(&name);
        assert!(shown.chars().count() == WIDEST && !shown.contains('\x1b'), "{shown:?}");
    }

    #[test]
    fn the_language_is_the_terminals() {
        for (locale, language) in [
            (Some("de_DE.UTF-8"), Language::German),
            (Some("de"), Language::German),
            (Some("en_GB"), Language::English),
            (Some("C"), Language::English),
            (None, Language::English),
        ] {
            assert_eq!(Language::of(locale), language, "{locale:?}");
        }
    }
}
