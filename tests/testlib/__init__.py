"""Code that several tests share: agent, commands, real kills, containers, servers, samples."""
