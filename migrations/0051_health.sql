alter table batchyard.machine add column health jsonb;
comment on column batchyard.machine.health is 'What the node proved of itself when its setup was over; null until then.';
