//! Between route and pick: may this client send a keyed request? Key-less ones are never asked.

use std::net::IpAddr;

use sidetrack_config::key::Key;
use sidetrack_config::model::{Access, contains};
use subtle::ConstantTimeEq;

use crate::error::{Code, Failure};
use crate::head::Head;
use crate::route::table::Table;

/// Lets a request with these keys pass, or says why not. Every named preview must let it pass.
///
/// # Errors
/// `access_denied`: 401 where a secret would have helped and none was sent, else 403.
pub fn admit<H: Head>(head: &H, keys: &[Key], client: IpAddr, table: &Table) -> Result<(), Failure> {
    for key in keys {
        let Some(access) = table.access(key) else { continue };
        if !allows(access, head, client) {
            return Err(denied(access, head).about(*key));
        }
    }
    Ok(())
}

fn allows<H: Head>(access: &Access, head: &H, client: IpAddr) -> bool {
    contains(&access.allow, client)
        || access.header.as_ref().is_some_and(|rule| {
            head.field(&rule.name).is_some_and(|sent| bool::from(sent.ct_eq(rule.secret.0.as_slice())))
        })
}

fn denied<H: Head>(access: &Access, head: &H) -> Failure {
    match &access.header {
        Some(rule) if head.field(&rule.name).is_none() => {
            let detail = format!("this preview wants its token in the header {}", rule.name);
            Failure::new(Code::AccessDenied, detail).with_status(401)
        }
        Some(_) => Failure::new(Code::AccessDenied, "the token is not the one of this preview"),
        None => Failure::new(Code::AccessDenied, "this client's address may not reach previews"),
    }
}

#[cfg(test)]
mod tests;
