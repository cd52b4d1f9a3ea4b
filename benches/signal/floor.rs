//! The floor: a relay of tokio and tokio-tungstenite with read buffers of 4 KiB, and nothing else.
//!
//! The first text of a connection names its room; each further one goes to the others in it as it is. No JSON, no
//! names, no numbers, no bounds, no timers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

const BUFFER: usize = 4096;

type Room = Vec<(u64, UnboundedSender<Utf8Bytes>)>;
type Rooms = Arc<Mutex<HashMap<Utf8Bytes, Room>>>;

/// Runs until it is killed.
pub fn run(listen: SocketAddr) -> ! {
    // As many workers as cores that it may use: here one, as ternd has.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&listen.into()).unwrap();
        socket.listen(1024).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let rooms = Rooms::default();
        for id in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, id, rooms.clone()));
        }
    });
    unreachable!()
}

async fn serve(stream: TcpStream, id: u64, rooms: Rooms) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
    let socket = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await.ok()?;
    let (mut sink, mut stream) = socket.split();
    let Message::Text(room) = stream.next().await?.ok()? else { return None };
    let (to, mut mine) = unbounded_channel();
    rooms.lock().unwrap().entry(room.clone()).or_default().push((id, to));
    sink.send(Message::text("joined")).await.ok()?;
    let read = async {
        while let Some(Ok(message)) = stream.next().await {
            let Message::Text(text) = message else { continue };
            let rooms = rooms.lock().unwrap();
            let others = rooms.get(&room).into_iter().flatten().filter(|(member, _)| *member != id);
            others.for_each(|(_, member)| drop(member.send(text.clone())));
        }
    };
    let write = async {
        while let Some(text) = mine.recv().await {
            if sink.feed(Message::Text(text)).await.is_err() {
                return;
            }
            while let Ok(text) = mine.try_recv() {
                if sink.feed(Message::Text(text)).await.is_err() {
                    return;
                }
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
    if let Some(members) = rooms.lock().unwrap().get_mut(&room) {
        members.retain(|(member, _)| *member != id);
    }
    Some(())
}
