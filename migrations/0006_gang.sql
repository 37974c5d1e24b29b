-- Gangs: which part ended first.

alter table batchyard.assignment add column ended_at timestamptz;
comment on column batchyard.assignment.ended_at is 'When it was known how it ends, on the node''s clock: the first bad end of a gang tells why the others ended.';
