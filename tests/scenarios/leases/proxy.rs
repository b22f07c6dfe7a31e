//! A proxy in front of a server that can stop forwarding, as a network does that loses its way.

use std::sync::Arc;

use tenantry_connection::DataSourceUrl;
use tenantry_test_support::cluster::Database;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Where a connection's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the server and back.
    Through,
    /// Nowhere: what is sent is taken and never answered. A connection that was open then never gets an answer again.
    Nowhere,
}

pub(crate) struct Proxy {
    pub(crate) url: DataSourceUrl,
    way: watch::Sender<Way>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(database: &Database) -> Self {
        let listener = TcpListener::bind((database.host.as_str(), 0)).await.unwrap();
        let url = format!("postgresql://{}/{}", listener.local_addr().unwrap(), database.name).parse().unwrap();
        let server = (database.host.clone(), database.port);
        let (way, watching) = watch::channel(Way::Through);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(carry(client, server.clone(), watching.clone()));
            }
        });
        Self { url, way, accepting }
    }

    /// From now on nothing is answered, on old connections and on new ones.
    pub(crate) fn lose_the_way(&self) {
        self.way.send(Way::Nowhere).unwrap();
    }

    /// New connections work again.
    pub(crate) fn find_the_way(&self) {
        self.way.send(Way::Through).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, server: (String, u16), mut way: watch::Receiver<Way>) {
    let (mut from_client, mut from_server) = (vec![0; 16_384], vec![0; 16_384]);
    if *way.borrow_and_update() == Way::Through {
        let Ok(mut server) = TcpStream::connect(server).await else { return };
        loop {
            tokio::select! {
                biased;
                _ = way.changed() => break,
                read = client.read(&mut from_client) => match read {
                    Ok(count @ 1..) if server.write_all(&from_client[..count]).await.is_ok() => {}
                    _ => return,
                },
                read = server.read(&mut from_server) => match read {
                    Ok(count @ 1..) if client.write_all(&from_server[..count]).await.is_ok() => {}
                    _ => return,
                },
            }
        }
        // The server's side stays open as well, until the client goes.
        let _server = server;
        swallow(&mut client).await;
        return;
    }
    swallow(&mut client).await;
}

/// Reads until the client closes.
async fn swallow(client: &mut TcpStream) {
    let mut bytes = vec![0; 16_384];
    while matches!(client.read(&mut bytes).await, Ok(1..)) {}
}

/// An address where everything is accepted and nothing answered.
pub(super) async fn black_hole() -> (Arc<DataSourceUrl>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("postgresql://{}/nowhere", listener.local_addr().unwrap()).parse().unwrap();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            connections.spawn(async move { swallow(&mut client).await });
        }
    });
    (Arc::new(url), accepting)
}
