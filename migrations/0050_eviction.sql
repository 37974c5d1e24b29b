alter table batchyard.machine add column evict_at timestamptz;
comment on column batchyard.machine.evict_at is 'When it is taken away, or was: told by its driver, or by who rehearses it.';
alter table batchyard.attempt
    drop constraint attempt_stop_check,
    add constraint attempt_stop_check
        check (stop in ('terminate', 'delete', 'timeout', 'requeue', 'node_removed', 'cluster_deleted', 'gang', 'preempted'));

-- Jobs that need more nodes than their cluster may have are looked for in every pass; of most clusters there is none.
create index resource_large_idx on batchyard.resource (cluster_uid, node_count) where phase = 'queued' and node_count > 1;
