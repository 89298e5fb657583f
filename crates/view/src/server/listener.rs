//! Where a server listens, and who comes.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::net::{TcpListener, TcpStream};

use super::Hosts;

/// How long nothing is accepted after the system refused a connection: it lacks descriptors or memory, and would refuse again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is asked whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An address that is listened at. Who connects waits until it is [accepted](next).
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
    host: String,
}

impl Listener {
    /// Listens at `host`, an address or a name of this machine; at any free port if `port` is 0.
    ///
    /// # Errors
    /// If that is not possible, for example because the port is taken.
    pub fn bind(host: &str, port: u16) -> io::Result<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let socket = std::net::TcpListener::bind((host, port))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, host: host.into() })
    }

    /// Whether it can be reached from other machines.
    pub fn is_public(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Where a browser on this machine finds it.
    pub fn url(&self) -> String {
        let (ip, port) = (self.address.ip(), self.address.port());
        match ip {
            _ if ip.is_unspecified() => format!("http://localhost:{port}/"),
            IpAddr::V4(ip) => format!("http://{ip}:{port}/"),
            IpAddr::V6(ip) => format!("http://[{ip}]:{port}/"),
        }
    }

    /// The names that it has.
    pub fn hosts(&self) -> Hosts {
        Hosts::new(self.host.clone(), self.address)
    }

    /// What accepts connections, in the runtime at hand.
    ///
    /// # Errors
    /// If the runtime can't watch it.
    pub fn into_tokio(self) -> io::Result<TcpListener> {
        TcpListener::from_std(self.socket)
    }
}

/// The next client.
pub async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client left before it was accepted.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Waits until one of `stop` is set.
pub async fn set(stop: &[&AtomicBool]) {
    while stop.iter().all(|stop| !stop.load(Ordering::Relaxed)) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
