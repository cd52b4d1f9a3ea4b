//! A bot that sits in a room and repeats what it is told.
//!
//! ```sh
//! cargo run -- serve &                                   # or any ternd
//! cargo run --example bot -- wss://turn.example.org demo
//! ```
//! With a certificate of its own making, as `ternd serve` has without a configuration, give it plain HTTP
//! (`listen.http`) and connect to `ws://`.
#![allow(missing_docs)] // a program has no outside

use std::error::Error;

use serde_json::json;
use ternd::client::{Client, Event, Join, Options, Presence};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(room)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bot URL ROOM".into());
    };
    let mut client = Client::connect(Options::new(&url).client("bot/1")).await?;
    println!("connected to {}", client.welcome().server);
    loop {
        let joined = client.join(Join::room(&room).name("bot")).await?;
        println!("in room {} as {}, with {} others", joined.room, joined.me, joined.peers.len());
        let lost = loop {
            match client.next().await {
                Ok(Event::Message { from, data, .. }) => {
                    println!("{from}: {data}");
                    client.message(Some(&from), json!({"you said": data})).await?;
                }
                Ok(Event::Peer(Presence::Join { peer, .. })) => println!("{peer} came"),
                Ok(Event::Peer(Presence::Leave { peer, .. })) => println!("{peer} left"),
                Ok(_) => {}
                Err(error) if error.may_resume() => {
                    println!("{error}");
                    if !client.resume().await? {
                        break error;
                    }
                    println!("back, and nothing was missed");
                }
                Err(error) => return Err(error.into()),
            }
        };
        println!("the session is over ({lost}): again");
    }
}
