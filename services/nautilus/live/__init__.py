"""Files of running jobs: whoever may see a run asks, the job's runner answers over the request that it holds open."""
