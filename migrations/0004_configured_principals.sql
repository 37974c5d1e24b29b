-- Principals that the settings of a server ask for, beside those that were made by command.

alter table batchyard.principal add column configured boolean not null default false;
comment on column batchyard.principal.configured is 'Whether a server''s settings ask for it: a start removes those that they name no more.';
comment on column batchyard.principal.secret_hash is 'An argon2id hash (chosen secret), sha256:hex (generated, 256 bit) or sha256:none (signs in elsewhere); never the secret.';
