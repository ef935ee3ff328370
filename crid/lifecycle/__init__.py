"""Use cases: what must happen in which order, what is undone when a step fails, what is found again after a crash.

sandbox     a pod from RunPodSandbox to its removal
container   a container from CreateContainer to its removal
exits       what became of containers that ended
recovery    what a new daemon makes of what an old one left
inflight    a retried request joins the running one
stats       accounting for the stats RPCs
"""
