#!/usr/bin/env python3
"""Speaks to an engine's CRI socket (Kubernetes' Container Runtime Interface, runtime.v1).

  cri.py SOCKET

Each line of standard input is `METHOD REQUEST`, REQUEST being JSON; each line of standard output is `ok ANSWER` or
`error CODE MESSAGE`. Two words more than gRPC has: `stream {"url", "input", "until"}` talks to an address that Exec or
Attach has answered with, and answers with what came on each channel.

Only the fields that the checks use are known, by their numbers in the published api.proto.
"""
import base64
import json
import os
import socket
import struct
import sys
import urllib.parse

import grpc

# NAME: FIELD=NUMBER[:TYPE] ...; a string without a type; '*' before a type that is repeated; 'map' of strings.
SCHEMA = '''
Int64: value=1:int
Uint64: value=1:int
Mapping: host_id=1:int container_id=2:int length=3:int
UserNamespace: mode=1:int uids=2:*Mapping gids=3:*Mapping
Namespaces: network=1:int pid=2:int ipc=3:int target_id=4 userns_options=5:UserNamespace
Profile: profile_type=1:int localhost_ref=2
Resources: cpu_period=1:int cpu_quota=2:int cpu_shares=3:int memory_limit_in_bytes=4:int oom_score_adj=5:int cpuset_cpus=6 cpuset_mems=7 unified=9:map memory_swap_limit_in_bytes=10:int
PodMetadata: name=1 uid=2 namespace=3 attempt=4:int
PodSecurity: namespace_options=1:Namespaces run_as_user=3:Int64 readonly_rootfs=4:bool supplemental_groups=5:*int privileged=6:bool seccomp=9:Profile apparmor=10:Profile
PodLinux: cgroup_parent=1 security_context=2:PodSecurity sysctls=3:map overhead=4:Resources resources=5:Resources
Pod: metadata=1:PodMetadata hostname=2 log_directory=3 labels=6:map annotations=7:map linux=8:PodLinux
Capabilities: add_capabilities=1:*string drop_capabilities=2:*string
Security: capabilities=1:Capabilities privileged=2:bool namespace_options=3:Namespaces run_as_user=5:Int64 run_as_group=12:Int64 run_as_username=6 readonly_rootfs=7:bool supplemental_groups=8:*int no_new_privs=11:bool masked_paths=13:*string readonly_paths=14:*string seccomp=15:Profile apparmor=16:Profile
Linux: resources=1:Resources security_context=2:Security
Image: image=1
KeyValue: key=1 value=2
Mount: container_path=1 host_path=2 readonly=3:bool propagation=5:int uidMappings=6:*Mapping gidMappings=7:*Mapping recursive_read_only=8:bool
Device: container_path=1 host_path=2 permissions=3
Metadata: name=1 attempt=2:int
Config: metadata=1:Metadata image=2:Image command=3:*string args=4:*string working_dir=5 envs=6:*KeyValue mounts=7:*Mount devices=8:*Device labels=9:map annotations=10:map log_path=11 stdin=12:bool stdin_once=13:bool tty=14:bool linux=15:Linux
RunPodSandboxRequest: config=1:Pod runtime_handler=2
RunPodSandboxResponse: pod_sandbox_id=1
StopPodSandboxRequest: pod_sandbox_id=1
StopPodSandboxResponse:
RemovePodSandboxRequest: pod_sandbox_id=1
RemovePodSandboxResponse:
PodSandboxStatusRequest: pod_sandbox_id=1 verbose=2:bool
PodNetwork: ip=1
PodStatus: id=1 state=3:int network=5:PodNetwork runtime_handler=9
PodSandboxStatusResponse: status=1:PodStatus info=2:map
CreateContainerRequest: pod_sandbox_id=1 config=2:Config sandbox_config=3:Pod
CreateContainerResponse: container_id=1
StartContainerRequest: container_id=1
StartContainerResponse:
StopContainerRequest: container_id=1 timeout=2:int
StopContainerResponse:
RemoveContainerRequest: container_id=1
RemoveContainerResponse:
ContainerResources: linux=1:Resources
ContainerStatus: id=1 state=3:int exit_code=7:int reason=10 message=11 log_path=15 resources=16:ContainerResources
ContainerStatusRequest: container_id=1 verbose=2:bool
ContainerStatusResponse: status=1:ContainerStatus info=2:map
ExecSyncRequest: container_id=1 cmd=2:*string timeout=3:int
ExecSyncResponse: stdout=1 stderr=2 exit_code=3:int
ExecRequest: container_id=1 cmd=2:*string tty=3:bool stdin=4:bool stdout=5:bool stderr=6:bool
ExecResponse: url=1
AttachRequest: container_id=1 stdin=2:bool tty=3:bool stdout=4:bool stderr=5:bool
AttachResponse: url=1
UpdateContainerResourcesRequest: container_id=1 linux=2:Resources
UpdateContainerResourcesResponse:
Cpu: timestamp=1:int usage_core_nano_seconds=2:Uint64
Memory: timestamp=1:int working_set_bytes=2:Uint64 usage_bytes=4:Uint64
ContainerStats: cpu=2:Cpu memory=3:Memory
ContainerStatsRequest: container_id=1
ContainerStatsResponse: stats=1:ContainerStats
Processes: process_count=2:Uint64
PodLinuxStats: cpu=1:Cpu memory=2:Memory process=4:Processes containers=5:*ContainerStats
PodStats: linux=2:PodLinuxStats
PodSandboxStatsRequest: pod_sandbox_id=1
PodSandboxStatsResponse: stats=1:PodStats
Container: id=1 state=6:int
ListContainersRequest:
ListContainersResponse: containers=1:*Container
PodItem: id=1 state=3:int
ListPodSandboxRequest:
ListPodSandboxResponse: items=1:*PodItem
VersionRequest: version=1
VersionResponse: version=1 runtime_name=2 runtime_version=3 runtime_api_version=4
Condition: type=1 status=2:bool reason=3 message=4
Conditions: conditions=1:*Condition
Features: recursive_read_only_mounts=1:bool user_namespaces=2:bool
Handler: name=1 features=2:Features
StatusRequest: verbose=1:bool
StatusResponse: status=1:Conditions runtime_handlers=3:*Handler
'''
MESSAGES = {}
for schema_line in filter(None, SCHEMA.split('\n')):
    message_name, _, words = schema_line.partition(':')
    fields = MESSAGES[message_name] = {}
    for word in words.split():
        field_name, _, rest = word.partition('=')
        number, _, kind = rest.partition(':')
        fields[field_name] = (int(number), (kind or 'string').lstrip('*'), kind.startswith('*'))


# --- protocol buffers, as far as that takes ---

def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode(name, value):
    out = b''
    for field, content in value.items():
        if field not in MESSAGES[name]:
            raise KeyError(f'{name} has no field {field} here')
        number, kind, repeated = MESSAGES[name][field]
        if kind == 'map':
            for pair in content.items():
                out += delimited(number, delimited(1, pair[0].encode()) + delimited(2, pair[1].encode()))
            continue
        for one in content if repeated else [content]:
            if kind in ('int', 'bool'):
                out += varint(number << 3) + varint(int(one))
            else:
                out += delimited(number, one.encode() if kind == 'string' else encode(kind, one))
    return out


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def decode(name, data):
    by_number = {number: (field, kind, repeated) for field, (number, kind, repeated) in MESSAGES[name].items()}
    out, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = read_varint(data, at)
        elif wire == 2:
            length, at = read_varint(data, at)
            value, at = data[at:at + length], at + length
        else:
            length = {1: 8, 5: 4}[wire]
            value, at = data[at:at + length], at + length
        if tag >> 3 not in by_number:
            continue
        field, kind, repeated = by_number[tag >> 3]
        if kind == 'map':
            MESSAGES.setdefault('Pair', {'key': (1, 'string', False), 'value': (2, 'string', False)})
            pair = decode('Pair', value)
            out.setdefault(field, {})[pair.get('key', '')] = pair.get('value', '')
            continue
        if kind == 'string':
            value = value.decode(errors='replace')
        elif kind == 'int':
            value -= (value >> 63) << 64
        elif kind == 'bool':
            value = bool(value)
        else:
            value = decode(kind, value)
        if repeated:
            out.setdefault(field, []).append(value)
        else:
            out[field] = value
    return out


# --- streams: WebSocket (RFC 6455), with the channels of Kubernetes' remote command protocol in its fourth version ---

def exactly(connection, length):
    data = b''
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError('the stream was cut')
        data += more
    return data


def frames(connection):
    """Opcode and content of every frame until the other end closes."""
    while True:
        try:
            head = exactly(connection, 2)
            length = head[1] & 127
            if length == 126:
                length = struct.unpack('>H', exactly(connection, 2))[0]
            elif length == 127:
                length = struct.unpack('>Q', exactly(connection, 8))[0]
            yield head[0] & 15, exactly(connection, length)
        except EOFError:
            return
        if head[0] & 15 == 8:
            return


def send(connection, opcode, data):
    mask = os.urandom(4)
    size = bytes([128 | len(data)]) if len(data) < 126 else b'\xfe' + struct.pack('>H', len(data))
    connection.sendall(bytes([128 | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))


def stream(request):
    url = urllib.parse.urlparse(request['url'])
    channels = {1: b'', 2: b'', 3: b''}
    with socket.create_connection((url.hostname, url.port), timeout=120) as connection:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall((f'GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
                            f'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n'
                            'Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n').encode())
        head = b''
        while not head.endswith(b'\r\n\r\n'):
            head += exactly(connection, 1)
        if b' 101 ' not in head.split(b'\r\n')[0]:
            raise OSError(head.decode(errors='replace').strip())
        if request.get('input'):
            send(connection, 2, b'\0' + request['input'].encode())
        for opcode, data in frames(connection):
            if opcode == 9:
                send(connection, 10, data)
            elif opcode in (0, 1, 2) and data:
                channels[data[0]] = channels.get(data[0], b'') + data[1:]
                if request.get('until') and request['until'].encode() in channels[1]:
                    break
    return {'stdout': channels[1].decode(errors='replace'), 'stderr': channels[2].decode(errors='replace'),
            'status': json.loads(channels[3] or b'{}')}


def main():
    address, patience = sys.argv[1], int(os.environ.get('SKEP_ENGINES_PATIENCE', '1'))
    with grpc.insecure_channel(f'unix:{address}') as channel:
        for line in sys.stdin:
            method, _, request = line.strip().partition(' ')
            try:
                if method == 'stream':
                    answer = stream(json.loads(request))
                else:
                    call = channel.unary_unary(f'/runtime.v1.RuntimeService/{method}',
                                               request_serializer=lambda value: encode(f'{method}Request', value),
                                               response_deserializer=lambda data: decode(f'{method}Response', data))
                    answer = call(json.loads(request or '{}'), timeout=60 * patience, wait_for_ready=True)
                print('ok', json.dumps(answer), flush=True)
            except grpc.RpcError as error:
                print('error', error.code().name, json.dumps(error.details()), flush=True)
            except (OSError, EOFError, KeyError, ValueError) as error:
                print('error', type(error).__name__, json.dumps(str(error)), flush=True)


main()
