//! Quotas as zkCli keeps them: limits and usage of PATH in the children of `/zookeeper/quota<PATH>`.

use anyhow::Context as _;
use farrier_client::{Client, Op};
use farrier_tree::quota::{LIMITS, Limits, QUOTA_ROOT, QuotaText, limits_path, stats_path};

use crate::output::{Failure, Out};
use crate::values::plain;
use crate::walk::Walk;

/// Prints limits and usage.
pub(super) async fn list(client: &Client, out: &mut Out, path: &str) -> anyhow::Result<()> {
    let limits = limits_of(client, path).await?;
    let usage = read(client, &stats_path(path)).await?;
    out.line(format_args!("Output quota for {} {limits}", plain(path)))?;
    out.line(format_args!("Output stat for {} {usage}", plain(path)))
}

/// Sets those limits that are given.
pub(super) async fn set(client: &Client, out: &mut Out, path: &str, limits: Limits) -> anyhow::Result<()> {
    if path == "/" || path == "/zookeeper" || path.starts_with("/zookeeper/") {
        return Err(Failure::usage(format!("{path} can have no quota: choose another path")));
    }
    if client.exists(path).await?.is_none() {
        return Err(Failure::refused(format!("{path} does not exist; create it before its quota")));
    }
    let at = limits_path(path);
    let (usage, text) = match client.get(&at).await {
        Ok(value) => {
            let mut text = parse(&at, &value.data)?;
            text.set_limits(limits, false);
            client.set(&at, &text.to_string()).version(value.stat.version).await?;
            (read(client, &stats_path(path)).await?, text)
        }
        Err(error) if error.is_no_node() => {
            refuse_overlap(client, path).await?;
            create_parents(client, &format!("{QUOTA_ROOT}{path}")).await?;
            let text = QuotaText::limits(limits);
            let (limits, none) = (text.to_string(), QuotaText::usage(0, 0).to_string());
            let stats = stats_path(path);
            client.multi([Op::create(&at, &limits), Op::create(&stats, &none)]).await?;
            // By now the server has counted.
            (read(client, &stats).await?, text)
        }
        Err(error) => return Err(error.into()),
    };
    let below = |limit: i64, used: i64| limit > NO_LIMIT && limit < used;
    for (what, limit, hard, used) in [
        ("count", text.count(), text.count_hard_limit(), usage.count()),
        ("bytes", text.bytes(), text.byte_hard_limit(), usage.bytes()),
    ] {
        if below(limit, used) || below(hard, used) {
            out.line(format_args!("[Warning]: the {what} quota is less than what there is already: {used}"))?;
        }
    }
    Ok(())
}

/// A limit that is none.
pub(super) const NO_LIMIT: i64 = -1;

/// Sets some limits to [`NO_LIMIT`], or with none given takes all of the quota away.
pub(super) async fn delete(client: &Client, path: &str, limits: Limits) -> anyhow::Result<()> {
    let at = limits_path(path);
    if limits != Limits::default() {
        let value = client.get(&at).await;
        let value = value.map_err(|error| no_quota(path, error))?;
        let mut text = parse(&at, &value.data)?;
        text.set_limits(limits, false);
        client.set(&at, &text.to_string()).version(value.stat.version).await?;
        return Ok(());
    }
    limits_of(client, path).await?;
    let place = format!("{QUOTA_ROOT}{path}");
    for name in client.list(&place).await? {
        if name.starts_with("zookeeper_") {
            client.delete(&format!("{place}/{name}")).await?;
        }
    }
    // What holds no other quota goes too.
    let mut place = place.as_str();
    while place != QUOTA_ROOT {
        match client.delete(place).await {
            Ok(()) => {}
            Err(error) if error.is_no_node() => {}
            Err(error) if error.is_not_empty() => break,
            Err(error) => return Err(error.into()),
        }
        place = &place[..place.rfind('/').unwrap_or(0)];
    }
    Ok(())
}

async fn limits_of(client: &Client, path: &str) -> anyhow::Result<QuotaText> {
    let at = limits_path(path);
    let value = client.get(&at).await.map_err(|error| no_quota(path, error))?;
    parse(&at, &value.data)
}

fn no_quota(path: &str, error: farrier_client::Error) -> anyhow::Error {
    if error.is_no_node() {
        Failure::refused(format!("{path} has no quota; `setquota` gives it one"))
    } else {
        error.into()
    }
}

async fn read(client: &Client, at: &str) -> anyhow::Result<QuotaText> {
    parse(at, &client.get(at).await?.data)
}

fn parse(at: &str, data: &[u8]) -> anyhow::Result<QuotaText> {
    QuotaText::parse(data).with_context(|| format!("{at}: somebody wrote there what is no quota; delete it"))
}

/// A path of which an ancestor or descendant has a quota can have none.
async fn refuse_overlap(client: &Client, path: &str) -> anyhow::Result<()> {
    let above = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
    for parent in above {
        if client.exists(&limits_path(parent)).await?.is_some() {
            return Err(Failure::refused(format!("{path} has an ancestor with a quota, {parent}")));
        }
    }
    let mut walk = Walk::new(client, &format!("{QUOTA_ROOT}{path}"));
    loop {
        match walk.next().await {
            Ok(Some(found)) if found.name == LIMITS => {
                let below =
                    found.path.strip_prefix(QUOTA_ROOT).and_then(|p| p.strip_suffix(LIMITS)).unwrap_or_default();
                let below = below.trim_end_matches('/');
                return Err(Failure::refused(format!("{path} has a descendant with a quota, {below}")));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(error) if error.is_no_node() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn create_parents(client: &Client, path: &str) -> anyhow::Result<()> {
    for (at, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
        match client.create(&path[..at], b"").await {
            Ok(_) => {}
            Err(error) if error.is_node_exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
