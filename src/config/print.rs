//! The effective settings as a file that could be read again, without secrets.

use std::fmt::Write;

use toml::Value;

use super::{Accelerator, Bytes, Config, Driver, Engine, HeldRole, Isolation, LogFormat, Migrations, PrincipalSecret, access};
use crate::vault::Source;

impl Config {
    /// All settings as TOML. Secrets are named in comments and not shown.
    pub fn to_toml(&self) -> String {
        let mut out = Printer(String::new());
        let listen = &self.listen;
        out.section("listen");
        out.list("http", listen.http.iter().map(ToString::to_string));
        out.list("https", listen.https.iter().map(ToString::to_string));
        out.value("allow_http", listen.allow_http);
        out.list("host_names", listen.host_names.iter().cloned());
        out.optional("public_url", listen.public_url.as_deref());
        out.optional("certificate", listen.certificate.as_ref().map(|files| files.chain.to_string_lossy()));
        out.optional("key", listen.certificate.as_ref().map(|files| files.key.to_string_lossy()));
        out.value("connections", i64::from(listen.connections));
        out.value("connections_per_address", i64::from(listen.connections_per_address));

        out.section("database");
        out.secret("DATABASE_URL", self.database.url.is_some());
        out.value("connections", i64::from(self.database.connections));
        out.value("wait", self.database.wait.to_string());
        out.value(
            "migrations",
            match self.database.migrations {
                Migrations::Apply => "apply",
                Migrations::Check => "check",
            },
        );
        out.optional("programs", self.database.programs.as_ref().map(|path| path.to_string_lossy()));
        out.value("memory", self.database.memory.to_string());

        out.section("folders");
        out.value("data", self.folders.data.to_string_lossy());
        out.value("keys", self.folders.keys.to_string_lossy());
        out.value("run", self.folders.run.to_string_lossy());

        out.section("archive");
        out.value("url", self.archive.url.as_str());
        let options = self.archive.options.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        out.value("options", options.collect::<toml::Table>());
        for (name, _) in &self.archive.secrets {
            out.secret(&format!("BATCHYARD_ARCHIVE_{} ({name})", name.to_ascii_uppercase()), true);
        }

        out.section("driver");
        match &self.driver {
            Driver::None => out.value("kind", "none"),
            Driver::Ssh(pool) => {
                out.value("kind", "ssh");
                out.optional("server_url", pool.server_url.as_deref());
                out.optional("server_authority", pool.server_authority.as_ref().map(|path| path.to_string_lossy()));
                out.value("fence", pool.fence.to_string());
                for machine in &pool.machines {
                    out.table("driver.machine");
                    out.value("name", machine.name.as_str());
                    match &machine.login {
                        Some(login) => {
                            out.value("host", login.host.as_str());
                            out.value("port", i64::from(login.port));
                            out.value("user", login.user.as_str());
                            out.value("key", login.key.to_string_lossy());
                            out.value("host_key", login.host_key.as_str());
                        }
                        None => out.value("calls", true),
                    }
                    out.value("address", machine.address.to_string());
                    out.list("labels", machine.labels.iter().cloned());
                    out.value("cores", i64::from(machine.cores));
                    out.value("memory", Bytes(machine.memory_mib << 20).to_string());
                    out.value("gpus", i64::from(machine.gpus));
                }
            }
            Driver::Qemu(qemu) => {
                out.value("kind", "qemu");
                out.value("folder", qemu.folder.to_string_lossy());
                out.value("login_address", qemu.login_address.map_or_else(|| "none".to_owned(), |address| address.to_string()));
                if let Some(bridge) = &qemu.bridge {
                    let (first, last) = bridge.addresses;
                    out.value("bridge", bridge.name.as_str());
                    out.value("bridge_addresses", format!("{first}-{last}/{}", bridge.prefix));
                    out.optional("bridge_gateway", bridge.gateway.map(|gateway| gateway.to_string()));
                    out.list("bridge_nameservers", bridge.nameservers.iter().map(ToString::to_string));
                }
                out.value("image", qemu.image.to_string_lossy());
                out.optional("kernel", qemu.kernel.as_ref().map(|path| path.to_string_lossy()));
                out.optional("initrd", qemu.initrd.as_ref().map(|path| path.to_string_lossy()));
                out.value("kernel_line", qemu.kernel_line.as_str());
                out.value(
                    "accelerator",
                    match qemu.accelerator {
                        Accelerator::Kvm => "kvm",
                        Accelerator::Tcg => "tcg",
                    },
                );
                out.value("boot_deadline", qemu.boot_deadline.to_string());
            }
            Driver::Local(local) => {
                out.value("kind", "local");
                out.value("folder", local.folder.to_string_lossy());
                out.value("share", local.share.to_string_lossy());
                out.value(
                    "isolation",
                    match local.isolation {
                        Isolation::Best => "best",
                        Isolation::Namespaces => "namespaces",
                        Isolation::ProcessGroups => "process-groups",
                    },
                );
                out.value("login_address", local.login_address.map_or_else(|| "none".to_owned(), |address| address.to_string()));
                out.value(
                    "engine",
                    match &local.engine {
                        Engine::Own => "own".into(),
                        Engine::None => "none".into(),
                        Engine::Socket(path) => path.to_string_lossy(),
                    },
                );
                out.list("registries", local.registries.words().into_iter());
                out.value("mount_commands", local.mount_commands);
                out.value("simulated_gpus", i64::from(local.simulated_gpus));
                out.optional("gpu_library", local.gpu_library.as_ref().map(|path| path.to_string_lossy()));
                out.value("refuse_missing_gpus", local.refuse_missing_gpus);
            }
        }

        out.section("storage");
        out.list("suffixes", self.storage.known.suffixes.iter().cloned());
        out.value("deadline", self.storage.deadline.to_string());
        for account in &self.storage.known.accounts {
            out.table("storage.account");
            out.value("name", account.name.as_str());
            out.optional("blob", account.blob.as_ref().map(ToString::to_string));
            out.optional("smb", account.smb.as_ref().map(ToString::to_string));
            out.optional("file", account.file.as_ref().map(ToString::to_string));
        }

        out.section("limits");
        out.value("clusters", i64::from(self.limits.clusters));
        out.value("file_servers", i64::from(self.limits.file_servers));
        for (key, cores) in
            [("dedicated_cores", &self.limits.dedicated_cores), ("low_priority_cores", &self.limits.low_priority_cores)]
        {
            out.value(
                key,
                cores.iter().map(|(name, most)| ((*name).to_owned(), Value::from(i64::from(*most)))).collect::<toml::Table>(),
            );
        }
        out.value("scale_down_after", self.limits.scale_down_after.to_string());
        out.value("unusable_for", self.limits.unusable_for.to_string());
        out.value("repair_pause", self.limits.repair_pause.to_string());
        out.value("stop_grace", self.limits.stop_grace.to_string());
        out.value("image_size", self.limits.image_size.to_string());
        out.value("image_time", self.limits.image_time.to_string());
        out.value("image_silence", self.limits.image_silence.to_string());
        out.value("drain", self.limits.drain.to_string());
        out.value("record", self.limits.record.to_string());
        out.value("samples", self.limits.samples.to_string());
        out.list("locations", self.limits.locations.iter().cloned());

        out.section("throttle");
        out.value("enabled", self.throttle.enabled);
        let rates = [("reads", self.throttle.reads), ("writes", self.throttle.writes), ("deletes", self.throttle.deletes)];
        for (name, rate) in rates {
            out.value(name, i64::from(rate.burst));
            out.value(&format!("{name}_per_second"), i64::from(rate.per_second));
        }

        out.section("log");
        out.value("filter", self.log.filter.as_str());
        out.value(
            "format",
            match self.log.format {
                LogFormat::Auto => "auto",
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            },
        );

        if let Some(collector) = &self.traces {
            out.section("traces");
            out.value("endpoint", collector.endpoint.as_str());
            out.optional("authority", collector.authority.as_ref().map(|path| path.to_string_lossy()));
            out.value("percent", i64::from(collector.percent));
        }

        for principal in &self.principals {
            out.table("principal");
            out.value("client_id", principal.client_id.as_str());
            out.value("display_name", principal.display_name.as_str());
            match &principal.secret {
                PrincipalSecret::Environment(_) => out.secret(&access::variable(&principal.client_id), true),
                PrincipalSecret::File(file) => out.value("secret_file", file.to_string_lossy()),
                PrincipalSecret::Absent => {}
            }
            let role = |held: &HeldRole| {
                let members = [("role", held.role.as_str()), ("scope", held.scope.as_str())];
                Value::from(
                    members.map(|(name, value)| (name.to_owned(), Value::from(value))).into_iter().collect::<toml::Table>(),
                )
            };
            out.value("roles", principal.roles.iter().map(role).collect::<Vec<Value>>());
        }
        for issuer in &self.issuers {
            out.table("issuer");
            out.value("issuer", issuer.issuer.as_str());
            out.list("audience", issuer.audience.iter().cloned());
            out.optional("keys", issuer.keys.as_deref());
            out.optional("authority", issuer.authority.as_ref().map(|path| path.to_string_lossy()));
            for rule in &issuer.principal {
                out.table("issuer.principal");
                let claims = rule.claims.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
                out.value("claims", claims.collect::<toml::Table>());
                out.value("principal", rule.principal.as_str());
            }
        }
        for vault in &self.vaults {
            out.table("vault");
            out.value("id", vault.id.as_str());
            out.value("url", vault.url.as_str());
            out.list("used_by", vault.used_by.iter().cloned());
            match &vault.source {
                Source::Folder(folder) => out.value("folder", folder.to_string_lossy()),
                Source::Rest(login) => {
                    out.value("endpoint", login.endpoint.as_str());
                    out.value("token_url", login.token_url.as_str());
                    out.value("scope", login.scope.as_str());
                    out.value("client_id", login.client_id.as_str());
                    out.value("client_secret_file", login.client_secret_file.to_string_lossy());
                    out.optional("authority", login.authority.as_ref().map(|path| path.to_string_lossy()));
                }
            }
        }
        out.0
    }
}

struct Printer(String);

impl Printer {
    fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{gap}[{name}]");
    }

    /// One table of a list.
    fn table(&mut self, name: &str) {
        let _ = writeln!(self.0, "\n[[{name}]]");
    }

    fn value(&mut self, key: &str, value: impl Printable) {
        let _ = writeln!(self.0, "{key} = {}", value.printable());
    }

    fn list(&mut self, key: &str, values: impl Iterator<Item = String>) {
        self.value(key, values.map(Value::from).collect::<Vec<Value>>());
    }

    fn optional(&mut self, key: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.value(key, value.as_ref());
        }
    }

    fn secret(&mut self, name: &str, is_set: bool) {
        let _ = writeln!(self.0, "# {name}: {}", if is_set { "set, not shown" } else { "not set" });
    }
}

/// What becomes a value of TOML.
trait Printable {
    fn printable(self) -> Value;
}

macro_rules! printable {
    ($($type:ty),*) => {
        $(impl Printable for $type {
            fn printable(self) -> Value {
                Value::from(self)
            }
        })*
    };
}

printable!(bool, i64, String, &str, Vec<Value>, toml::Table);

impl Printable for std::borrow::Cow<'_, str> {
    fn printable(self) -> Value {
        Value::from(self.into_owned())
    }
}
