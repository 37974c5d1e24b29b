create index resource_job_idx on batchyard.resource (parent_uid, phase, created_at, uid) where kind = 'job';
comment on index batchyard.resource_job_idx is 'The jobs of an experiment by phase and age: pages of them, and how many there are.';
