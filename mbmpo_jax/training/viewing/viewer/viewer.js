// Plays a recording of bodies. Lengths are metres, z is up, quaternions are
// w, x, y, z, and sizes of geoms are MuJoCo's.
'use strict';

const SKY = '#dfe8f0';
const recording = JSON.parse(document.getElementById('recording').textContent);
const poses = floats(recording.poses); // [frames, bodies, 7], place and turn
const numBodies = recording.num_bodies;
const numFrames = recording.time.length;

// --- the scene

function floats(base64) {
  return new Float32Array(bytes(base64).buffer);
}

function integers(base64) {
  return new Uint32Array(bytes(base64).buffer);
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

// The shape of a geom about its own frame; `size` as MuJoCo has it.
function shape(geom) {
  const [a, b, c] = geom.size;
  switch (geom.type) {
    case 'sphere':
      return new THREE.SphereGeometry(a, 32, 24);
    case 'ellipsoid':
      return new THREE.SphereGeometry(1, 32, 24).scale(a, b, c);
    case 'box':
      return new THREE.BoxGeometry(2 * a, 2 * b, 2 * c);
    case 'capsule': // three.js has its axis along y
      return new THREE.CapsuleGeometry(a, 2 * b, 12, 32).rotateX(Math.PI / 2);
    case 'cylinder':
      return new THREE.CylinderGeometry(a, a, 2 * b, 48).rotateX(Math.PI / 2);
    case 'mesh': {
      const mesh = recording.meshes[geom.mesh];
      const indexed = new THREE.BufferGeometry();
      const points = new THREE.BufferAttribute(floats(mesh.points), 3);
      indexed.setAttribute('position', points);
      indexed.setIndex(new THREE.BufferAttribute(integers(mesh.faces), 1));
      const flat = indexed.toNonIndexed(); // one normal per face
      flat.computeVertexNormals();
      return flat;
    }
    default:
      throw new Error(`unknown type of geom: ${geom.type}`);
  }
}

function solid(geom) {
  const [red, green, blue, alpha] = geom.color;
  const material = new THREE.MeshStandardMaterial({
    color: new THREE.Color().setRGB(red, green, blue, THREE.SRGBColorSpace),
    opacity: alpha,
    transparent: alpha < 1,
    roughness: 0.6,
  });
  const mesh = new THREE.Mesh(shape(geom), material);
  mesh.castShadow = mesh.receiveShadow = true;
  return mesh;
}

// 1, 2 or 5 times a power of ten: the one just below a length.
function roundLength(length) {
  const power = 10 ** Math.floor(Math.log10(length));
  return power * [5, 2, 1].find((digit) => digit * power <= length);
}

// A chequered plane; where MuJoCo's has no size it ends in the haze.
function ground(geom, haze, square) {
  const [x, y] = geom.size.map((half) => (half > 0 ? 2 * half : Infinity));
  const width = Math.min(x, 2.5 * haze);
  const height = Math.min(y, 2.5 * haze);
  const tile = document.createElement('canvas');
  tile.width = tile.height = 256;
  const paint = tile.getContext('2d');
  const [red, green, blue] = geom.color.map((part) => 255 * (0.4 + 0.6 * part));
  const shade = (light) =>
    `rgb(${light * red} ${light * green} ${light * blue})`;
  paint.fillStyle = shade(0.94);
  paint.fillRect(0, 0, 256, 256);
  paint.fillStyle = shade(0.8);
  paint.fillRect(0, 0, 128, 128);
  paint.fillRect(128, 128, 128, 128);
  const texture = new THREE.CanvasTexture(tile);
  texture.colorSpace = THREE.SRGBColorSpace;
  texture.wrapS = texture.wrapT = THREE.RepeatWrapping;
  texture.repeat.set(width / (2 * square), height / (2 * square));
  texture.offset.set(-texture.repeat.x / 2, -texture.repeat.y / 2);
  texture.anisotropy = renderer.capabilities.getMaxAnisotropy();
  const mesh = new THREE.Mesh(
    new THREE.PlaneGeometry(width, height),
    new THREE.MeshStandardMaterial({map: texture, roughness: 1}),
  );
  mesh.receiveShadow = true;
  return mesh;
}

function place(object, [x, y, z], [w, i, j, k]) {
  object.position.set(x, y, z);
  object.quaternion.set(i, j, k, w);
}

let renderer;
try {
  renderer = new THREE.WebGLRenderer({
    canvas: document.getElementById('canvas'),
    antialias: true,
  });
} catch (error) {
  const message = document.getElementById('message');
  message.textContent =
    'This page draws with WebGL, which this browser lacks or has switched off.'
    + ' Another browser, or its setting for hardware acceleration, may help.';
  message.hidden = false;
  document.getElementById('canvas').hidden = true;
  throw error;
}
renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
renderer.shadowMap.enabled = true;
renderer.shadowMap.type = THREE.PCFShadowMap;

const {follow, center, radius} = recording.view;
const haze = 30 * radius;
const square = roundLength(0.6 * radius);
const scene = new THREE.Scene();
scene.background = new THREE.Color(SKY);
scene.fog = new THREE.Fog(SKY, 6 * radius, haze);
scene.add(new THREE.HemisphereLight('#ffffff', '#8b8f96', 1.6));

const sun = new THREE.DirectionalLight('#fff4e0', 2.2);
const sunDirection = new THREE.Vector3(0.5, -0.6, 1.4).setLength(4 * radius);
sun.castShadow = true;
sun.shadow.mapSize.set(2048, 2048);
sun.shadow.normalBias = 0.01 * radius;
Object.assign(sun.shadow.camera, {
  left: -2 * radius, right: 2 * radius, top: 2 * radius, bottom: -2 * radius,
  near: 0.1 * radius, far: 10 * radius,
});
scene.add(sun, sun.target);

const bodies = Array.from({length: numBodies}, () => new THREE.Group());
scene.add(...bodies);
const endless = []; // planes that go where the camera looks
for (const geom of recording.geoms) {
  const isPlane = geom.type === 'plane';
  const object = isPlane ? ground(geom, haze, square) : solid(geom);
  place(object, geom.position, geom.quaternion);
  bodies[geom.body].add(object);
  if (isPlane && geom.body === 0) endless.push({object, home: geom.position});
}

const camera = new THREE.PerspectiveCamera(35, 1, radius / 50, 2 * haze);
camera.up.set(0, 0, 1);
const controls = new THREE.OrbitControls(camera, renderer.domElement);
controls.maxPolarAngle = 0.497 * Math.PI; // not below the ground
controls.minDistance = 0.5 * radius;
controls.maxDistance = 12 * radius;

// --- time

const target = new THREE.Vector3(); // what the camera looks at by default
const turnNow = new THREE.Quaternion();
const turnNext = new THREE.Quaternion();
let now = 0; // in frames, with a fraction between two
let playing = true;

// Where the camera should look while a body is where it is.
function lookAt(place) {
  place.set(...center);
  if (follow !== null) {
    place.x += bodies[follow].position.x;
    place.y += bodies[follow].position.y;
  }
  return place;
}

// Moves every body to where it is at a time, between two frames of an episode.
function seek(frame) {
  now = Math.min(Math.max(frame, 0), numFrames - 1);
  const current = Math.floor(now);
  const next = Math.min(current + 1, numFrames - 1);
  const together = recording.episode[current] === recording.episode[next];
  const share = together ? now - current : 0;
  bodies.forEach((body, index) => {
    const a = 7 * (current * numBodies + index);
    const b = 7 * (next * numBodies + index);
    const between = (i) => (1 - share) * poses[a + i] + share * poses[b + i];
    body.position.set(between(0), between(1), between(2));
    turnNow.set(poses[a + 4], poses[a + 5], poses[a + 6], poses[a + 3]);
    turnNext.set(poses[b + 4], poses[b + 5], poses[b + 6], poses[b + 3]);
    body.quaternion.slerpQuaternions(turnNow, turnNext, share);
  });

  // The camera keeps its place beside what it follows.
  const moved = lookAt(new THREE.Vector3()).sub(target);
  target.add(moved);
  controls.target.add(moved);
  camera.position.add(moved);
  sun.target.position.copy(target);
  sun.position.copy(target).add(sunDirection);
  for (const {object, home} of endless) {
    const whole = (length) => Math.round(length / square / 2) * 2 * square;
    object.position.x = home[0] + whole(target.x - home[0]);
    object.position.y = home[1] + whole(target.y - home[1]);
  }
  show(current);
}

const playButton = document.getElementById('play');
const slider = document.getElementById('time');
const speed = document.getElementById('speed');
const readout = document.getElementById('readout');

// The numbers of a frame.
function show(frame) {
  slider.value = frame;
  const numEpisodes = recording.episode[numFrames - 1] + 1;
  const parts = [
    `time ${recording.time[frame].toFixed(2)} s`,
    `return so far ${recording.reward_so_far[frame].toFixed(2)}`,
  ];
  if (numEpisodes > 1) {
    parts.push(`episode ${recording.episode[frame] + 1} of ${numEpisodes}`);
  }
  if (recording.task.length) parts.push(`task: ${recording.task[frame]}`);
  if (recording.terminated[frame]) parts.push('ended');
  readout.textContent = parts.join('    ');
}

function play(whether) {
  playing = whether;
  playButton.textContent = playing ? 'Pause' : 'Play';
}

// --- controls

slider.max = numFrames - 1;
if (recording.dt > 0.2) speed.value = 5; // long steps would be dull to watch
slider.addEventListener('input', () => {
  play(false);
  seek(slider.valueAsNumber);
});
recording.episode.forEach((episode, frame) => {
  if (frame > 0 && episode !== recording.episode[frame - 1]) {
    document.getElementById('episodes').append(new Option('', frame));
  }
});
playButton.addEventListener('click', () => play(!playing));
window.addEventListener('keydown', (event) => {
  if (event.target !== document.body && event.target !== renderer.domElement) {
    return; // a control's own keys
  }
  if (event.key === ' ') play(!playing);
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (step) {
    play(false);
    seek(Math.round(now) + step);
  }
});

function resize() {
  renderer.setSize(window.innerWidth, window.innerHeight, false);
  camera.aspect = window.innerWidth / window.innerHeight;
  camera.updateProjectionMatrix();
}
window.addEventListener('resize', resize);

// From the side, somewhat from above; all of it in view in a tall window, too.
resize();
seek(0);
const distance =
  (1.05 * radius) / Math.sin((camera.fov / 360) * Math.PI)
  / Math.min(1, camera.aspect);
camera.position
  .set(0.35, -1, 0.42)
  .setLength(distance)
  .add(target);
controls.target.copy(target);
controls.update();

let last = performance.now();
renderer.setAnimationLoop((time) => {
  const elapsed = Math.min(Math.max(time - last, 0) / 1000, 0.1);
  last = time;
  if (playing) {
    const frames = (elapsed * Number(speed.value)) / recording.dt;
    seek(now >= numFrames - 1 ? 0 : now + frames);
  }
  controls.update();
  renderer.render(scene, camera);
});

// For scripts, and for whoever opens the console.
window.viewer = {
  seek,
  play,
  bodies,
  camera,
  get frame() {
    return now;
  },
};
