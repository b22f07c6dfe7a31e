//! `cargo run -p reference-api`: the API on SQLite files with two tenants to try it on.
//!
//! It reads arguments, prints how to sign in, and serves; everything else is the library.

use std::{net::Ipv4Addr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use reference_api::{Api, Passwords, SessionKeys, Sessions, demo};
use tenantry::Tenantry;
use tokio::net::TcpListener;

/// How long somebody stays signed in.
const SESSION: Duration = Duration::from_secs(8 * 3600);

/// Serves the reference API on SQLite files, with two tenants to try it on
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  reference-api --folder ./demo --port 8080\n\n\
                        SESSION_KEYS=new:<64 hexadecimal digits>,old:<64 hexadecimal digits> keeps sessions over a restart: the \
                        first key signs, all of them verify. Without it a key is made for this run.")]
struct Arguments {
    /// Where the databases are; a temporary folder, gone at the end, where none is given
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Print address and users as one line of JSON
    #[arg(long)]
    json: bool,
    /// The keys that sign sessions
    #[arg(long, env = "SESSION_KEYS", hide_env_values = true, hide = true)]
    session_keys: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let log =
        tracing_subscriber::EnvFilter::builder().with_default_directive(tracing::Level::WARN.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    match serve(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", tenantry::data_source::with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let keys = match &arguments.session_keys {
        Some(keys) => SessionKeys::parse(keys)?,
        None => SessionKeys::random().ok_or("this machine gives no random bytes")?,
    };
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let passwords = Passwords::new()?;
    let (tenantry, users) = demo::set_up(&std::path::absolute(folder)?, &passwords).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let url = format!("http://localhost:{}", listener.local_addr()?.port());
    tell(&url, &users, arguments.json)?;
    let api = Api::new(tenantry.clone(), Sessions::new(keys, SESSION), passwords)?;
    api.serve(listener, interrupted()).await?;
    Tenantry::close(&tenantry).await;
    Ok(())
}

fn tell(url: &str, users: &[demo::DemoUser], json: bool) -> Result<(), serde_json::Error> {
    if json {
        println!("{}", serde_json::to_string(&serde_json::json!({ "url": url, "users": users }))?);
        return Ok(());
    }
    println!("{url}/api/openapi.json describes the API. Sign in as one of them:\n");
    for user in users {
        let body = serde_json::to_string(user)?;
        println!(
            "  curl -c {0}.cookies -H 'content-type: application/json' -d '{body}' {url}/api/session",
            user.tenant
        );
    }
    println!("\nand then, for that tenant and no other:\n");
    let accounts = format!("{url}/api/accounts");
    println!("  curl -b acme.cookies -H 'content-type: application/json' -d '{{\"name\":\"Coyote\"}}' {accounts}");
    println!("  curl -b acme.cookies '{accounts}?search=coyote'");
    println!("  curl -b globex.cookies {accounts}\n");
    println!("Ctrl-C ends it.");
    Ok(())
}

async fn interrupted() {
    // Without signals there is nothing to wait for but the end of the process.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
