"""The network lab: real members, each in a network namespace of its own, on cables that we bend and cut.

Idea. Every member gets a namespace with one TUN device. Whatever it sends comes out of that device's file, in a process
of ours, the switch, which decides for each packet whether it is lost, how long it travels, and writes it into the
device of its receiver. So round trips, jitter, loss and cuts, each direction by itself, need no module of the kernel
(`netem` is missing in many), no iptables, and leave nothing that could outlive the lab: namespaces, devices and switch
hang on file descriptors, and are gone with the last of them.

    ground       namespaces and TUN devices; says loudly why not, where they aren't allowed
    fabric       pure: cables, and what becomes of a packet
    switch       the process around it, in a real-time class where it may
    network      our handle on both
    accuracy     how far the round trips are from what was asked for
    members      `tenure serve` in the namespaces
    traces       pure: what the members' logs say about a change of leader
    writers      clients beside members, who write all the time
    nemeses      pure: which cables a partition cuts
    holder       what a user runs that stands for an office: guarded work in time, and too late
    holders      such users beside all members
    offices      pure: what they told, held against each other
    spikes       a cable that takes longer for a moment
    failover, quiet, partitions    the experiments
    report       tables and checks

Words. *RTT*: twice the delay of a cable, without what members and disks need. *Noticed*: a member tells `leader_lost`.
*False election*: a vote request while the leader lives and nothing is cut; notes and pre-votes are none, they change
nothing. *Writes lost*: acknowledged, and not there afterwards.

All instants are microseconds of CLOCK_BOOTTIME, which namespaces share: members' log lines (`boot_us`), blows and
clients' answers can be compared as they are.

Left out: packets twice or out of order (TCP hides both; the simulation has them), bandwidth (a member's traffic is far
below any link's), clients that are cut off (ours sit beside the members, on both sides of every partition, which is the
harder test).
"""
