//! HBase's master and one region server, each in its own process, on a directory of the local file system and an
//! ensemble that is not theirs.

use super::workload::{Program, Workload};
use super::{Running, quorum};
use anyhow::Result;
use farrier_testkit::ports::free_ports;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Where its znodes are.
pub(super) const ROOT: &str = "/hbase";
/// What HBase's own scripts open to it on the Java that this needs.
const OPENED: [&str; 10] = [
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.reflect",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.util.random",
    "java.base/sun.nio.ch",
];

pub(super) fn start(class_path: &str, dir: &Path, servers: &[SocketAddr]) -> Result<Running> {
    let ports = free_ports(2)?;
    let conf = dir.join("conf");
    fs::create_dir_all(&conf)?;
    fs::write(conf.join("hbase-site.xml"), site(dir, &quorum(servers), [ports[0], ports[1]]))?;
    let class_path = format!("{}:{class_path}", conf.display());
    let process = |main: &str| {
        let mut java = java(&class_path);
        java.args([main, "start"]);
        java
    };
    let programs = vec![
        Program::start("master", process("org.apache.hadoop.hbase.master.HMaster"), dir)?,
        Program::start("region-server", process("org.apache.hadoop.hbase.regionserver.HRegionServer"), dir)?,
    ];
    let mut workload = java(&class_path);
    workload.arg("farrier.interop.HBase");
    Ok(Running { programs, workload: Workload::start(workload, dir)? })
}

fn site(dir: &Path, quorum: &str, [master, region]: [u16; 2]) -> String {
    let (root, temporary) = (format!("file://{}", dir.join("root").display()), dir.join("tmp").display().to_string());
    let (master, region) = (master.to_string(), region.to_string());
    let mut text = String::from("<configuration>\n");
    for (name, value) in [
        ("hbase.cluster.distributed", "true"),
        ("hbase.rootdir", &root),
        ("hbase.tmp.dir", &temporary),
        // A local file system can't promise what HDFS does when a process dies; none dies here.
        ("hbase.unsafe.stream.capability.enforce", "false"),
        ("hbase.zookeeper.quorum", quorum),
        ("zookeeper.znode.parent", ROOT),
        ("hbase.master.hostname", "localhost"),
        ("hbase.master.port", &master),
        ("hbase.master.info.port", "-1"),
        ("hbase.regionserver.hostname", "localhost"),
        ("hbase.regionserver.port", &region),
        ("hbase.regionserver.info.port", "-1"),
    ] {
        let _ = writeln!(text, "<property><name>{name}</name><value>{value}</value></property>");
    }
    text.push_str("</configuration>\n");
    text
}

fn java(class_path: &str) -> Command {
    let mut java = Command::new("java");
    java.args([
        "-Xmx768m",
        "-XX:+UseSerialGC",
        "-Dorg.apache.hbase.thirdparty.io.netty.tryReflectionSetAccessible=true",
    ])
    .args(OPENED.iter().flat_map(|package| ["--add-opens".to_owned(), format!("{package}=ALL-UNNAMED")]))
    .args(["--add-exports", "java.base/jdk.internal.misc=ALL-UNNAMED"])
    .args(["--add-exports", "java.security.jgss/sun.security.krb5=ALL-UNNAMED"])
    .args(["-cp", class_path]);
    java
}
