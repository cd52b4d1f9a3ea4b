//! `ternd ctl room`, and the table of `ternd ctl rooms`.

use clap::Subcommand;
use hyper::Method;
use serde_json::Value;

use super::{table, word};
use crate::cli::invite::Guest;

#[derive(Debug, Subcommand)]
pub(super) enum Order {
    /// Who is in it, from where, and how it is closed.
    Show {
        /// Its name.
        room: String,
    },
    /// Nobody else comes in, but moderators by their token, and those who lost their connection.
    Lock {
        /// Its name.
        room: String,
    },
    /// Whoever may, comes in again.
    Unlock {
        /// Its name.
        room: String,
    },
    /// Put everybody out; the room ends with that, and all its credentials.
    Close {
        /// Its name.
        room: String,
    },
    /// Print a link that lets into it, without the PIN, and where a token is needed. The room need not be there yet.
    Invite(Guest),
}

impl Order {
    pub(super) fn request(&self) -> (Method, &'static str, Vec<(&'static str, String)>) {
        let of = |room: &String| vec![("room", room.clone())];
        let lock = |room, locked: bool| [of(room), vec![("locked", locked.to_string())]].concat();
        match self {
            Self::Show { room } => (Method::GET, "/v1/room", of(room)),
            Self::Lock { room } => (Method::POST, "/v1/room/lock", lock(room, true)),
            Self::Unlock { room } => (Method::POST, "/v1/room/lock", lock(room, false)),
            Self::Close { room } => (Method::POST, "/v1/room/close", of(room)),
            Self::Invite(guest) => (Method::POST, "/v1/invite", guest.parameters()),
        }
    }

    /// The answer for people.
    pub(super) fn shown(&self, answer: &Value) -> String {
        match self {
            Self::Show { .. } => {
                let members = answer["members"].as_array().map_or(0, Vec::len);
                format!("{members} of {} members\n{}", word(&answer["capacity"]), table_of([answer]))
            }
            Self::Lock { .. } => "locked\n".into(),
            Self::Unlock { .. } => "unlocked\n".into(),
            Self::Close { .. } => format!("{} members put out\n", answer["ended"]),
            Self::Invite(_) => format!("{}\n", word(&answer["link"])),
        }
    }
}

/// One line for each member.
pub(super) fn table_of<'a>(listed: impl IntoIterator<Item = &'a Value>) -> String {
    const HEAD: [&str; 6] = ["ROOM", "STATE", "PEER", "NAME", "FROM", "IS"];
    let of_room = |room: &Value| {
        let flags = [("pin", "PIN"), ("locked", "locked")];
        let state: Vec<_> =
            flags.iter().filter(|(key, _)| room[key] == true).map(|(_, name)| *name).collect();
        let (name, state) =
            (word(&room["room"]), if state.is_empty() { "open".into() } else { state.join(", ") });
        let row = move |member: &Value| {
            let here = if member["here"] == true { "here" } else { "away" };
            let rank = if member["moderator"] == true { ", moderator" } else { "" };
            let fields = ["peer", "name", "from"].map(|key| word(&member[key]));
            let [peer, called, from] = fields;
            [name.clone(), state.clone(), peer, called, from, format!("{here}{rank}")]
        };
        room["members"].as_array().into_iter().flatten().map(row).collect::<Vec<_>>()
    };
    let rows: Vec<_> = listed.into_iter().flat_map(of_room).collect();
    table(HEAD.map(String::from), &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_room_for_people() {
        let members = json!([
            {"peer": "p_a", "name": "Al\u{1b}ice", "from": "192.0.2.7", "here": true, "moderator": true},
            {"peer": "p_b", "name": null, "from": "2001:db8::", "here": false, "moderator": false},
        ]);
        let room = json!({"room": "demo", "capacity": 4, "pin": true, "locked": true, "members": members});
        let show = Order::Show { room: "demo".into() };
        assert_eq!(
            show.shown(&room),
            "2 of 4 members\n\
             ROOM  STATE        PEER  NAME         FROM        IS\n\
             demo  PIN, locked  p_a   Al\\u{1b}ice  192.0.2.7   here, moderator\n\
             demo  PIN, locked  p_b   -            2001:db8::  away\n"
        );
    }
}
