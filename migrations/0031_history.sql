alter table batchyard.assignment add column node_id text;
comment on column batchyard.assignment.node_id is 'The wire''s node id of the machine, kept when its row is gone.';
update batchyard.assignment s set node_id = m.node_id from batchyard.machine m where m.uid = s.machine_uid;
