-- The ranks of jobs get room between them: versions before 2018-05-01 count priorities from -1000 to 1000.

update batchyard.resource
set rank = rank * 1000
where kind = 'job' and rank in (-1, 1);
