//! Many calls at the same time, made by `ternd::client`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ternd::client::{Client, Error, Options};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;

use crate::{call, fleet};

/// Connections that are opened at the same time.
const OPENING: usize = 64;

/// So many calls at the same time, after all have connected; how long all but one in a hundred took at most.
pub fn calls(server: SocketAddr, count: usize) -> (Duration, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut took: Vec<Duration> = Vec::new();
    let start = runtime.block_on(async {
        let shared = Arc::new((Semaphore::new(OPENING), Barrier::new(2 * count + 1)));
        let mut tasks = JoinSet::new();
        for index in 0..2 * count {
            let shared = shared.clone();
            tasks.spawn(async move {
                let (opening, everybody) = &*shared;
                let permit = opening.acquire().await.unwrap();
                let options = Options::new(&format!("ws://{server}")).from(fleet::source(index).ip());
                let mut client = Client::connect(options).await?;
                drop(permit);
                everybody.wait().await;
                let start = Instant::now();
                call::call(&mut client, &format!("r{}", index / 2)).await?;
                let took = start.elapsed();
                // Nobody leaves before the other one has all.
                everybody.wait().await;
                client.close().await?;
                Ok::<_, Error>(took)
            });
        }
        shared.1.wait().await;
        let start = Instant::now();
        shared.1.wait().await;
        let all = start.elapsed();
        while let Some(call) = tasks.join_next().await {
            took.push(call.unwrap().unwrap());
        }
        all
    });
    assert_eq!(took.len(), 2 * count);
    took.sort_unstable();
    (start, took[(took.len() - 1) * 99 / 100])
}
