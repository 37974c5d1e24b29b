alter table batchyard.resource add column trace text;
comment on column batchyard.resource.trace is
    'The span of the request that made a job, as a W3C traceparent, where spans are told; what becomes of the job joins its trace.';
