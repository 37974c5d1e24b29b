alter table batchyard.machine add column gpus jsonb not null default '[]';
comment on column batchyard.machine.gpus is 'The GPUs that its agent found to be its own.';
