#!/usr/bin/env python3
"""Medians of create, start and delete of skep, runc and crun with each cgroup driver, and skep's ratio to the others."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

RUNTIMES = {'skep': os.environ.get('RUNTIME', '/opt/skep/bin/skep'), 'runc': shutil.which('runc'), 'crun': shutil.which('crun')}
DRIVERS = ('cgroupfs', 'systemd')
STEPS = ('create', 'start', 'delete')


def call(words, cwd):
    began = time.perf_counter()
    # `create` leaves its streams to the container.
    done = subprocess.run(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120,
                          check=False) if 'create' not in words else \
        subprocess.run(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=False)
    took = (time.perf_counter() - began) * 1000
    if done.returncode:
        raise RuntimeError(f'{" ".join(words)}: status {done.returncode}: {(done.stderr or b"").decode(errors="replace")}')
    return took


def stopped(runtime, name):
    for _ in range(600):
        said = subprocess.run([*runtime, 'state', name], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if said.returncode == 0 and json.loads(said.stdout)['status'] == 'stopped':
            return
        time.sleep(0.05)
    raise RuntimeError(f'{name} does not end')


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    work = tempfile.mkdtemp()
    with open('/opt/lab/bundle/config.json', encoding='utf-8') as handle:
        config = json.load(handle)
    config['root']['path'] = '/opt/lab/bundle/rootfs'
    config['process']['terminal'] = False
    config['process']['args'] = ['true']
    config['linux']['resources'].update({'memory': {'limit': 268435456}, 'cpu': {'shares': 512}, 'pids': {'limit': 100}})
    took, failed = {}, set()
    for number in range(rounds + 2):
        for driver in DRIVERS:
            for name, path in RUNTIMES.items():
                if (name, driver) in failed:
                    continue
                unit = f'times-{name}-{driver}-{number}'
                bundle = os.path.join(work, unit)
                os.mkdir(bundle)
                config['linux']['cgroupsPath'] = f'system.slice:times:{unit}' if driver == 'systemd' else f'/{unit}'
                with open(os.path.join(bundle, 'config.json'), 'w', encoding='utf-8') as handle:
                    json.dump(config, handle)
                runtime = [path, *(['--systemd-cgroup'] if driver == 'systemd' else [])]
                try:
                    times = [call([*runtime, 'create', unit], bundle), call([*runtime, 'start', unit], bundle)]
                    stopped(runtime, unit)
                    times.append(call([*runtime, 'delete', unit], bundle))
                except (RuntimeError, subprocess.SubprocessError) as error:
                    failed.add((name, driver))
                    print(f'not ok - {name} with {driver}: {error}')
                    continue
                finally:
                    shutil.rmtree(bundle)
                # The first ones pay for what is not in memory yet.
                if number >= 2:
                    for step, one in zip(STEPS, times):
                        took.setdefault((name, driver, step), []).append(one)
    shutil.rmtree(work)
    print(f'{"median of " + str(rounds) + ", ms":24}{"skep":>9}{"runc":>9}{"crun":>9}{"skep/runc":>11}{"skep/crun":>11}')
    for driver in DRIVERS:
        sums = {}
        for step in (*STEPS, 'all three'):
            row = {}
            for name in RUNTIMES:
                if step == 'all three':
                    row[name] = sums.get(name)
                elif (name, driver, step) in took:
                    row[name] = statistics.median(took[name, driver, step])
                    sums[name] = sums.get(name, 0) + row[name]
            cells = ''.join(f'{row[name]:9.1f}' if row.get(name) else f'{"-":>9}' for name in RUNTIMES)
            for peer in ('runc', 'crun'):
                cells += f'{row["skep"] / row[peer]:11.2f}' if row.get('skep') and row.get(peer) else f'{"-":>11}'
            print(f'{driver + " " + step:24}{cells}')
    ours = sum(1 for name, _ in failed if name == 'skep')
    print(f'{len(DRIVERS) - ours} passed, {ours} failed, 0 skipped')
    sys.exit(1 if ours else 0)


main()
