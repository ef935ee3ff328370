"""Use cases: what must happen in which order, what is undone when a step fails, what is found again after a crash.

sandbox     a pod from RunPodSandbox to its removal
create      a container's making, and the undoing of it; container: its life from then to its removal
exec        commands whose output is the answer; streams: those, attachments and forwards with a client's streams
exits       what became of containers that ended; exit_watch: where their monitors fail
recovery    what a new daemon makes of what an old one left; leftovers: the removal of what nobody needs
check       whether the records and the host agree
inflight    a retried request joins the running one; retries: it gets the result of one that has ended
hooks       the moments at which others hear of pods and containers, and may adjust or refuse them
stats       accounting for the stats RPCs; metrics: cAdvisor's series
"""
