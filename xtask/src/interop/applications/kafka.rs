//! A Kafka broker that keeps its state in ZooKeeper, with its defaults except where one broker alone needs others.

use super::workload::{Program, Workload};
use super::{Running, quorum};
use anyhow::Result;
use farrier_testkit::ports::free_ports;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Where the broker's znodes are.
pub(super) const ROOT: &str = "/kafka";

pub(super) fn start(class_path: &str, dir: &Path, servers: &[SocketAddr]) -> Result<Running> {
    let broker = format!("127.0.0.1:{}", free_ports(1)?[0]);
    let properties = dir.join("server.properties");
    fs::write(
        &properties,
        format!(
            "broker.id=0\nlisteners=PLAINTEXT://{broker}\nlog.dirs={}\nzookeeper.connect={}{ROOT}\n\
             auto.create.topics.enable=false\noffsets.topic.replication.factor=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n",
            dir.join("data").display(),
            quorum(servers),
        ),
    )?;
    let mut kafka = java(class_path);
    kafka.arg("kafka.Kafka").arg(&properties);
    let programs = vec![Program::start("broker", kafka, dir)?];
    let mut workload = java(class_path);
    workload.args(["farrier.interop.Kafka", &broker]);
    Ok(Running { programs, workload: Workload::start(workload, dir)? })
}

fn java(class_path: &str) -> Command {
    let mut java = Command::new("java");
    java.args(["-Xmx512m", "-XX:+UseSerialGC", "-cp", class_path]);
    java
}
