//! hickory-server's own UDP listener with globaldns' handler: what the fast path is measured against.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use globaldns_bench::fixture::Fixture;
use hickory_server::Server;

/// hickory-server with globaldns' handler.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// How many hosts.
    #[arg(long)]
    hosts: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let fixture = Fixture::with_hosts(arguments.hosts);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut server = Server::new(fixture.handler());
        server.register_socket(tokio::net::UdpSocket::bind(arguments.listen).await?);
        Ok(server.block_until_done().await?)
    })
}
