//! `ratssaal doctor`: looks at a running installation from where a participant stands, and says in one line each what is wrong
//! and what to do.
//!
//! | file | owns |
//! |---|---|
//! | [`options`] | the command line |
//! | [`finding`] | what a check says, and how it is printed |
//! | [`mod@line`] | name, TCP, certificate: a connection to the installation |
//! | [`web`] | HTTP requests over such a connection |
//! | [`meeting`] | two participants who meet: token, WebSocket, UDP, sound from one to the other |
//! | [`visitor`] | one of these participants |

mod finding;
mod line;
mod meeting;
mod options;
mod visitor;
mod web;

use std::io;

use anyhow::bail;
use clap::ArgMatches;
use serde::Deserialize;
use tokio::task::LocalSet;

use finding::{Checks, Finding, Problem};
use line::Line;
use options::Options;

pub(crate) use options::command;

/// What `/api/v1/config` says that is of interest here; unknown fields are those of other versions.
#[derive(Deserialize)]
struct Site {
    name: String,
}

/// Checks everything and prints a line each.
///
/// # Errors
/// Something is wrong with the installation, or with the command line.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let options = Options::read(matches)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut checks = Checks::new(io::stdout());
    LocalSet::new().block_on(&runtime, examine(&options, &mut checks))?;
    match checks.bad() {
        0 => Ok(()),
        1 => bail!("one check failed; what to do stands in its line"),
        bad => bail!("{bad} checks failed; what to do stands in their lines"),
    }
}

/// The checks in order. A failed one lets those be skipped that need it.
async fn examine(options: &Options, checks: &mut Checks<io::Stdout>) -> anyhow::Result<()> {
    let mut line = Line::new(options)?;
    if !checks.note("name", line.resolve().await)? || !checks.note("certificate", line.probe().await)? {
        return checks.skip_rest();
    }
    if !checks.note("http", http(&line).await)? {
        return checks.skip_rest();
    }
    meeting::examine(options, &line, checks).await
}

/// Whether the web client is served and the server takes participants.
async fn http(line: &Line) -> Result<Finding, Problem> {
    let page = web::get(line, "/").await?;
    if page.status != 200 || !page.is_html() {
        let what = format!("{} answers / with status {} and no web page", line.host(), page.status);
        return Err(Problem::new(what, "check that the address leads to Ratssaal, and the proxy before it"));
    }
    let ready = web::get(line, "/readyz").await?;
    if ready.status == 503 {
        let what = format!("the server takes no participants: {}", ready.text());
        return Err(Problem::new(what, "its log says more; wait if it is starting, or start another one"));
    }
    let site = web::get(line, "/api/v1/config").await?;
    let Ok(site) = serde_json::from_slice::<Site>(&site.body) else {
        let what = format!("/api/v1/config gives status {} and not what Ratssaal says there", site.status);
        return Err(Problem::new(what, "let the proxy pass all paths on to Ratssaal"));
    };
    let name = finding::plain(&site.name, 80);
    if !page.has_script() {
        let finding = Finding::new(format!("“{name}”, APIs answer"));
        return Ok(finding.but("there is no web client in it; use the image, or `make build`"));
    }
    Ok(Finding::new(format!("“{name}”, web client and APIs answer")))
}
