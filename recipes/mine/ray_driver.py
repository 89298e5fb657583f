#!/usr/bin/env python3
"""The stages of `koan mine` on a Ray cluster.

    python3 ray_driver.py mine.toml --shards 64 --cpus 4 [--address auto]

A stage is so many tasks; the next begins when all have ended. A task that fails, or whose machine goes away, is run again and goes on
where it was: what is made is not made again. Program, config, crawl and run directory must be on a file system that all machines see,
and are relative to the directory in which this is started.
"""
import argparse
import os
import subprocess

import ray

STAGES = ["pages", "urls", "near", "clusters", "write", "report"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("--run-dir", help="in the place of the config's run_dir")
    parser.add_argument("--shards", type=int, default=16, help="tasks of a stage")
    parser.add_argument("--cpus", type=int, default=1, help="cores of a task")
    parser.add_argument("--retries", type=int, default=3)
    parser.add_argument("--koan", default="koan", help="the program, built with its feature mine")
    parser.add_argument("--address", help="the cluster; without one, Ray starts on this machine")
    arguments = parser.parse_args()
    ray.init(address=arguments.address)
    directory = os.getcwd()

    @ray.remote(num_cpus=arguments.cpus, max_retries=arguments.retries, retry_exceptions=True)
    def run(stage, index, shards):
        command = [arguments.koan, "mine", "run", arguments.config, "--stage", stage, "--shard", f"{index}/{shards}"]
        command += ["--workers", str(arguments.cpus)] + (["--run-dir", arguments.run_dir] if arguments.run_dir else [])
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    for stage in STAGES:
        shards = 1 if stage in ("clusters", "report") else arguments.shards
        said = ray.get([run.remote(stage, index, shards) for index in range(shards)])
        print(f"{stage}: {shards} tasks done", flush=True)
    print(said[-1])


if __name__ == "__main__":
    main()
