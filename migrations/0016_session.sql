-- Gangs: keys by which the nodes of an attempt reach each other.

alter table batchyard.attempt add column session_key_id text;
alter table batchyard.attempt add column session_sealed bytea;
alter table batchyard.attempt add constraint attempt_session_check check ((session_key_id is null) = (session_sealed is null));
comment on column batchyard.attempt.session_key_id is 'The key under which its own keys are sealed.';
comment on column batchyard.attempt.session_sealed is 'The keys by which its nodes reach each other, sealed; gone once it has ended.';
