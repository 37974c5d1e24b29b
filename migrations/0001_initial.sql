-- Everything lives in the schema `batchyard`; nothing is put into `public`.

create schema if not exists batchyard;

create table batchyard.subscription (
    id uuid not null,
    tenant_id uuid not null,
    display_name text not null,
    registered_at timestamptz,
    created_at timestamptz not null,
    constraint subscription_pkey primary key (id)
);
comment on table batchyard.subscription is 'The outermost scopes: what resources and roles live in.';
comment on column batchyard.subscription.id is 'The GUID in every path.';
comment on column batchyard.subscription.tenant_id is 'The directory whose principals may hold roles here.';
comment on column batchyard.subscription.display_name is 'What lists show.';
comment on column batchyard.subscription.registered_at is 'When Microsoft.BatchAI was registered; null where it is not.';
comment on column batchyard.subscription.created_at is 'When it was made.';

create table batchyard.principal (
    id uuid not null,
    tenant_id uuid not null,
    client_id text not null,
    display_name text not null,
    secret_hash text not null,
    valid_after timestamptz not null,
    created_at timestamptz not null,
    constraint principal_pkey primary key (id),
    constraint principal_client_id_key unique (client_id)
);
comment on table batchyard.principal is 'Who may sign in at the built-in issuer.';
comment on column batchyard.principal.id is 'The object id.';
comment on column batchyard.principal.tenant_id is 'The directory that it is in.';
comment on column batchyard.principal.client_id is 'The name that it signs in with.';
comment on column batchyard.principal.display_name is 'What lists show.';
comment on column batchyard.principal.secret_hash is 'An argon2id hash (chosen secret) or sha256:hex (generated, 256 bit); never the secret.';
comment on column batchyard.principal.valid_after is 'Tokens issued before this are refused.';
comment on column batchyard.principal.created_at is 'When it was made.';

create table batchyard.role_assignment (
    id uuid not null,
    principal_id uuid not null,
    role text not null,
    scope text not null,
    created_at timestamptz not null,
    constraint role_assignment_pkey primary key (id),
    constraint role_assignment_principal_fkey foreign key (principal_id) references batchyard.principal (id) on delete cascade,
    constraint role_assignment_role_check check (role in ('owner', 'contributor', 'reader')),
    constraint role_assignment_scope_check check (scope !~ '[A-Z]'),
    constraint role_assignment_unique unique (principal_id, role, scope)
);
comment on table batchyard.role_assignment is 'What principals may do, and where. Deny by default.';
comment on column batchyard.role_assignment.id is 'Its identity.';
comment on column batchyard.role_assignment.principal_id is 'Who.';
comment on column batchyard.role_assignment.role is 'What: a built-in role.';
comment on column batchyard.role_assignment.scope is 'Where: the key of a subscription, group or resource; what is below it is included.';
comment on column batchyard.role_assignment.created_at is 'When it was granted.';

create table batchyard.resource (
    uid uuid not null,
    subscription_id uuid not null,
    kind text not null,
    parent_uid uuid,
    key text collate "C" not null,
    path text not null,
    name text not null,
    location text not null,
    tags jsonb,
    spec jsonb not null,
    status jsonb not null,
    provisioning text not null,
    provisioned_at timestamptz not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    generation bigint not null default 1,
    revision bigint not null default 1,
    phase text,
    cluster_uid uuid,
    rank smallint,
    node_count integer,
    attempts integer not null default 0,
    constraint resource_pkey primary key (uid),
    constraint resource_key_key unique (key),
    constraint resource_parent_fkey foreign key (parent_uid) references batchyard.resource (uid),
    constraint resource_key_check check (key !~ '[A-Z]'),
    constraint resource_kind_check check (kind in ('group', 'workspace', 'cluster', 'experiment', 'job')),
    constraint resource_parent_check check ((kind = 'group') = (parent_uid is null)),
    constraint resource_provisioning_check check (provisioning in ('succeeded', 'deleting', 'failed')),
    constraint resource_phase_check check (phase in ('queued', 'running', 'terminating', 'succeeded', 'failed')),
    constraint resource_job_check check ((kind = 'job') = (phase is not null) and (kind = 'job') = (rank is not null)
        and (kind = 'job') = (node_count is not null))
);
comment on table batchyard.resource is 'What users asked for, one row a resource of any kind, and what was recorded about it.';
comment on column batchyard.resource.uid is 'Its identity for its whole life (uuid v7); a resource made again under the same name has another.';
comment on column batchyard.resource.subscription_id is 'The subscription that it is in: checked when a group is made, children take their parent''s.';
comment on column batchyard.resource.kind is 'What it is.';
comment on column batchyard.resource.parent_uid is 'The resource that it lives in; null for a group.';
comment on column batchyard.resource.key is 'The path in lower case, folded by the server: what lookups compare.';
comment on column batchyard.resource.path is 'The id as answers show it.';
comment on column batchyard.resource.name is 'Its own name as given at creation.';
comment on column batchyard.resource.location is 'Canonical region; children carry their workspace''s.';
comment on column batchyard.resource.tags is 'Tags; null where none were ever given.';
comment on column batchyard.resource.spec is 'What was asked for, defaults filled in, secrets taken out.';
comment on column batchyard.resource.status is 'What was recorded, apart from what has a column.';
comment on column batchyard.resource.provisioning is 'Making or unmaking.';
comment on column batchyard.resource.provisioned_at is 'When provisioning became what it is.';
comment on column batchyard.resource.created_at is 'When the first PUT was accepted.';
comment on column batchyard.resource.updated_at is 'When a request last changed the entity: Last-Modified.';
comment on column batchyard.resource.generation is 'Counts changes by requests: ETag.';
comment on column batchyard.resource.revision is 'Counts all changes of the row; status writes check it.';
comment on column batchyard.resource.phase is 'Job: where it is in its life.';
comment on column batchyard.resource.cluster_uid is 'Job: the cluster that it runs on, bound at admission; null once that is gone while the job had not ended.';
comment on column batchyard.resource.rank is 'Job: greater goes first.';
comment on column batchyard.resource.node_count is 'Job: nodes that it needs.';
comment on column batchyard.resource.attempts is 'Job: attempts made so far.';

create index resource_parent_idx on batchyard.resource (parent_uid, kind, key);
create index resource_subscription_idx on batchyard.resource (subscription_id, kind, key) where kind in ('group', 'workspace', 'cluster');
create index resource_queue_idx on batchyard.resource (cluster_uid, rank desc, created_at, uid) where phase = 'queued';
create index resource_active_idx on batchyard.resource (phase, cluster_uid) where phase in ('running', 'terminating');
create index resource_deleting_idx on batchyard.resource (uid) where provisioning = 'deleting';
create index resource_cluster_idx on batchyard.resource (uid) where kind = 'cluster';

create table batchyard.secret (
    resource_uid uuid not null,
    field text not null,
    key_id text not null,
    sealed bytea not null,
    constraint secret_pkey primary key (resource_uid, field),
    constraint secret_resource_fkey foreign key (resource_uid) references batchyard.resource (uid) on delete cascade
);
comment on table batchyard.secret is 'Values that were given and are never returned, sealed by the server under a key that is not in the database.';
comment on column batchyard.secret.resource_uid is 'Whose.';
comment on column batchyard.secret.field is 'Which, for example secrets.TOKEN.';
comment on column batchyard.secret.key_id is 'The sealing key.';
comment on column batchyard.secret.sealed is 'Nonce and ciphertext; bound to owner, field and key id.';

create table batchyard.operation (
    id uuid not null,
    subscription_id uuid not null,
    location text not null,
    resource_uid uuid not null,
    resource_path text not null,
    verb text not null,
    state text not null,
    started_at timestamptz not null,
    ended_at timestamptz,
    error jsonb,
    caller uuid not null,
    constraint operation_pkey primary key (id),
    constraint operation_verb_check check (verb in ('create', 'delete', 'terminate')),
    constraint operation_state_check check (state in ('running', 'succeeded', 'failed')),
    constraint operation_ended_check check ((state = 'running') = (ended_at is null))
);
comment on table batchyard.operation is 'Long-running operations; they outlive their resource, as clients poll them after a DELETE.';
comment on column batchyard.operation.id is 'In the URLs that clients poll.';
comment on column batchyard.operation.subscription_id is 'The only subscription in which the id is valid.';
comment on column batchyard.operation.location is 'The region in the URLs.';
comment on column batchyard.operation.resource_uid is 'What is made, unmade or stopped.';
comment on column batchyard.operation.resource_path is 'Its canonical path: the operation is authorised like its resource.';
comment on column batchyard.operation.verb is 'What is done.';
comment on column batchyard.operation.state is 'How far it is.';
comment on column batchyard.operation.started_at is 'When it was accepted.';
comment on column batchyard.operation.ended_at is 'When it ended.';
comment on column batchyard.operation.error is 'Code and message where it failed.';
comment on column batchyard.operation.caller is 'Who asked.';

create index operation_running_idx on batchyard.operation (resource_uid, verb) where state = 'running';

create table batchyard.event (
    id bigint generated always as identity,
    at timestamptz not null,
    resource_uid uuid not null,
    path text not null,
    caller uuid,
    what text not null,
    why text not null,
    constraint event_pkey primary key (id)
);
comment on table batchyard.event is 'Append-only: who or what changed what, and why. No secrets, no bodies.';
comment on column batchyard.event.id is 'Total order.';
comment on column batchyard.event.at is 'When.';
comment on column batchyard.event.resource_uid is 'What was changed.';
comment on column batchyard.event.path is 'Its canonical path, readable after it is gone.';
comment on column batchyard.event.caller is 'Whose request it was; null for the service itself.';
comment on column batchyard.event.what is 'A short stable word.';
comment on column batchyard.event.why is 'Text for people.';

create table batchyard.machine (
    uid uuid not null,
    name text not null,
    node_id text not null,
    cluster_uid uuid not null,
    ordinal integer not null,
    size jsonb not null,
    state text not null,
    state_changed_at timestamptz not null,
    created_at timestamptz not null,
    attempt_uid uuid,
    deallocation text,
    address text,
    setup jsonb not null default '"pending"',
    ensure_failures integer not null default 0,
    retry_at timestamptz,
    problem jsonb,
    join_token_hash bytea not null,
    join_token_sealed bytea,
    join_expires_at timestamptz not null,
    key_hash bytea,
    quarantined boolean not null default false,
    boot_id text,
    session uuid,
    past_sessions uuid[] not null default '{}',
    seq bigint not null default 0,
    desired bigint not null default 1,
    seen_at timestamptz,
    revision bigint not null default 1,
    constraint machine_pkey primary key (uid),
    constraint machine_name_key unique (name),
    constraint machine_ordinal_key unique (cluster_uid, ordinal),
    constraint machine_cluster_fkey foreign key (cluster_uid) references batchyard.resource (uid) on delete cascade,
    constraint machine_state_check check (state in ('asked', 'preparing', 'ready', 'unusable', 'leaving', 'gone')),
    constraint machine_deallocation_check check (deallocation in ('requeue', 'terminate', 'waitforjobcompletion'))
);
comment on table batchyard.machine is 'A machine asked of a driver, and the node it becomes. The row is committed before the driver is asked.';
comment on column batchyard.machine.uid is 'Its identity.';
comment on column batchyard.machine.name is 'Its name at the driver; never used twice.';
comment on column batchyard.machine.node_id is 'The wire''s node id.';
comment on column batchyard.machine.cluster_uid is 'Its cluster for its whole life.';
comment on column batchyard.machine.ordinal is 'Counts the machines of its cluster from 1.';
comment on column batchyard.machine.size is 'Name, cores, memory, GPUs.';
comment on column batchyard.machine.state is 'Where it is in its life.';
comment on column batchyard.machine.state_changed_at is 'When state became what it is.';
comment on column batchyard.machine.created_at is 'When the row was committed.';
comment on column batchyard.machine.attempt_uid is 'The one attempt that has it: a node runs one job at a time.';
comment on column batchyard.machine.deallocation is 'What happens to its job when it is to leave.';
comment on column batchyard.machine.address is 'Its address among its cluster''s nodes.';
comment on column batchyard.machine.setup is 'The setup as its agent reported.';
comment on column batchyard.machine.ensure_failures is 'Times that the driver was asked in vain.';
comment on column batchyard.machine.retry_at is 'Not asked again before this.';
comment on column batchyard.machine.problem is 'What went wrong, for the cluster''s errors.';
comment on column batchyard.machine.join_token_hash is 'SHA-256 of the one-time join token.';
comment on column batchyard.machine.join_token_sealed is 'The token sealed, so that ensure can be repeated after a crash; null once spent.';
comment on column batchyard.machine.join_expires_at is 'The token is refused after this.';
comment on column batchyard.machine.key_hash is 'SHA-256 of the key made on the node; bound by the first join.';
comment on column batchyard.machine.quarantined is 'A second key was presented: both are refused.';
comment on column batchyard.machine.boot_id is 'The boot that joined.';
comment on column batchyard.machine.session is 'The agent process that reports.';
comment on column batchyard.machine.past_sessions is 'Sessions that another one followed, the last few: what they still send is late.';
comment on column batchyard.machine.seq is 'The last report of that session that changed anything.';
comment on column batchyard.machine.desired is 'The revision of what the node should be; counts up whenever that changes.';
comment on column batchyard.machine.seen_at is 'When its agent was last heard.';
comment on column batchyard.machine.revision is 'Counts changes that reconcilers decide from; their writes check it.';

create index machine_live_idx on batchyard.machine (cluster_uid) where state <> 'gone';

create table batchyard.attempt (
    uid uuid not null,
    job_uid uuid not null,
    number integer not null,
    state text not null,
    stop text,
    cause text,
    created_at timestamptz not null,
    released_at timestamptz,
    ended_at timestamptz,
    revision bigint not null default 1,
    constraint attempt_pkey primary key (uid),
    constraint attempt_number_key unique (job_uid, number),
    constraint attempt_job_fkey foreign key (job_uid) references batchyard.resource (uid) on delete cascade,
    constraint attempt_state_check check (state in ('placed', 'released', 'ended')),
    constraint attempt_stop_check check (stop in ('terminate', 'delete', 'timeout', 'requeue', 'node_removed', 'cluster_deleted', 'gang')),
    constraint attempt_ended_check check ((state = 'ended') = (ended_at is not null))
);
comment on table batchyard.attempt is 'Attempts to run jobs; history is kept with the job.';
comment on column batchyard.attempt.uid is 'Its identity; never used twice.';
comment on column batchyard.attempt.job_uid is 'The job.';
comment on column batchyard.attempt.number is 'Counts the attempts of the job from 1.';
comment on column batchyard.attempt.state is 'How far it is.';
comment on column batchyard.attempt.stop is 'Why it is to stop; set once.';
comment on column batchyard.attempt.cause is 'Why it ended.';
comment on column batchyard.attempt.created_at is 'When it was placed.';
comment on column batchyard.attempt.released_at is 'When its processes were let go.';
comment on column batchyard.attempt.ended_at is 'When nothing of it ran any more.';
comment on column batchyard.attempt.revision is 'Counts changes; writes check it.';

-- At most one attempt of a job lives: the database itself refuses a second.
create unique index attempt_alive_idx on batchyard.attempt (job_uid) where state <> 'ended';

create table batchyard.assignment (
    attempt_uid uuid not null,
    machine_uid uuid not null,
    rank integer not null,
    state text not null,
    started_at timestamptz,
    end_how jsonb,
    constraint assignment_pkey primary key (attempt_uid, rank),
    constraint assignment_attempt_fkey foreign key (attempt_uid) references batchyard.attempt (uid) on delete cascade,
    constraint assignment_state_check check (state in ('assigned', 'ready', 'running', 'ended')),
    constraint assignment_end_check check ((state = 'ended') = (end_how is not null))
);
comment on table batchyard.assignment is 'An attempt''s part on each node.';
comment on column batchyard.assignment.attempt_uid is 'The attempt.';
comment on column batchyard.assignment.machine_uid is 'The node; its row may be gone.';
comment on column batchyard.assignment.rank is 'Its place in the gang from 0.';
comment on column batchyard.assignment.state is 'How far it is, as its agent reported.';
comment on column batchyard.assignment.started_at is 'When its processes started, on the node''s clock.';
comment on column batchyard.assignment.end_how is 'How it ended.';

create unique index assignment_machine_idx on batchyard.assignment (machine_uid) where state <> 'ended';

create table batchyard.output_file (
    attempt_uid uuid not null,
    directory text not null,
    path text not null,
    generation integer not null,
    size bigint not null,
    modified_at timestamptz not null,
    constraint output_file_pkey primary key (attempt_uid, directory, path),
    constraint output_file_attempt_fkey foreign key (attempt_uid) references batchyard.attempt (uid) on delete cascade,
    constraint output_file_size_check check (size >= 0)
);
comment on table batchyard.output_file is 'Files that jobs wrote where no storage is mounted; kept by the server.';
comment on column batchyard.output_file.attempt_uid is 'The attempt that wrote it.';
comment on column batchyard.output_file.directory is 'The id of the output directory; stdouterr for the standard one.';
comment on column batchyard.output_file.path is 'Its path below the directory.';
comment on column batchyard.output_file.generation is 'Counts the contents it had; only the last is kept.';
comment on column batchyard.output_file.size is 'Bytes received so far.';
comment on column batchyard.output_file.modified_at is 'When it was last written, on its node''s clock.';

create table batchyard.output_chunk (
    attempt_uid uuid not null,
    directory text not null,
    path text not null,
    generation integer not null,
    start bigint not null,
    length bigint not null,
    data bytea,
    object text,
    constraint output_chunk_pkey primary key (attempt_uid, directory, path, generation, start),
    constraint output_chunk_file_fkey foreign key (attempt_uid, directory, path)
        references batchyard.output_file (attempt_uid, directory, path) on delete cascade,
    constraint output_chunk_where_check check ((data is null) <> (object is null))
);
comment on table batchyard.output_chunk is 'The bytes of those files: small pieces here, large ones as objects of the archive.';
comment on column batchyard.output_chunk.attempt_uid is 'The attempt.';
comment on column batchyard.output_chunk.directory is 'The directory''s id.';
comment on column batchyard.output_chunk.path is 'The file.';
comment on column batchyard.output_chunk.generation is 'The content it is part of.';
comment on column batchyard.output_chunk.start is 'Offset of its first byte.';
comment on column batchyard.output_chunk.length is 'Bytes.';
comment on column batchyard.output_chunk.data is 'The bytes, where they are few.';
comment on column batchyard.output_chunk.object is 'The archive''s object, where they are many.';

create table batchyard.lease (
    name text not null,
    holder uuid,
    token bigint not null default 0,
    expires_at timestamptz not null,
    constraint lease_pkey primary key (name)
);
comment on table batchyard.lease is 'Who may act; every commit of a reconciler checks the token it holds.';
comment on column batchyard.lease.name is 'What is held.';
comment on column batchyard.lease.holder is 'The server process.';
comment on column batchyard.lease.token is 'Counts the grants; a stale holder''s commits are refused.';
comment on column batchyard.lease.expires_at is 'By the database''s clock; others may take it afterwards.';

create table batchyard.setting (
    name text not null,
    value jsonb not null,
    constraint setting_pkey primary key (name)
);
comment on table batchyard.setting is 'Facts about the installation: its id, its tenant.';
comment on column batchyard.setting.name is 'Which.';
comment on column batchyard.setting.value is 'Its value.';
