-- What jobs used of their nodes, as the nodes measured it.

create table batchyard.sample (
    machine_uid uuid not null,
    at timestamptz not null,
    attempt_uid uuid not null,
    cpu_milli bigint,
    memory bigint,
    disk_read bigint,
    disk_written bigint,
    net_in bigint,
    net_out bigint,
    gpu_milli bigint,
    gpu_memory bigint,
    constraint sample_pkey primary key (machine_uid, at),
    constraint sample_attempt_fkey foreign key (attempt_uid) references batchyard.attempt (uid) on delete cascade
);
create index sample_attempt_idx on batchyard.sample (attempt_uid);
-- Rows come in the order of their times: so small an index finds those that are too old.
create index sample_at_idx on batchyard.sample using brin (at);
comment on table batchyard.sample is 'What the node of an attempt used, one row a look; kept for a time that a setting says.';
comment on column batchyard.sample.machine_uid is 'The node''s machine, whose row may be gone.';
comment on column batchyard.sample.at is 'When it was looked, in whole seconds: a machine has one row a second at most.';
comment on column batchyard.sample.attempt_uid is 'The attempt that had the node.';
comment on column batchyard.sample.cpu_milli is 'Thousandths of a core, the mean since the look before; null where it cannot be told, as below.';
comment on column batchyard.sample.memory is 'Bytes of memory, without what the kernel only caches.';
comment on column batchyard.sample.disk_read is 'Bytes read from disks in a second, the mean since the look before.';
comment on column batchyard.sample.disk_written is 'Bytes written to disks in a second, likewise.';
comment on column batchyard.sample.net_in is 'Bytes that came over the node''s network in a second, likewise.';
comment on column batchyard.sample.net_out is 'Bytes that left over the node''s network in a second, likewise.';
comment on column batchyard.sample.gpu_milli is 'Thousandths of the time that the node''s GPUs computed in, their mean.';
comment on column batchyard.sample.gpu_memory is 'Bytes of memory in use on the node''s GPUs, their sum.';
