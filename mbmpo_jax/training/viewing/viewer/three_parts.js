// What viewer.js uses of three.js 0.187.0 (MIT, see LICENSE-three.txt).
// three.min.js beside this file is made of it, and of nothing else:
//
//   npm install three@0.187.0 esbuild@0.28.2
//   npx esbuild three_parts.js --bundle --minify --target=es2020 \
//     --format=iife --global-name=THREE --legal-comments=inline \
//     --banner:js='/* three.js 0.187.0, parts of it. MIT licence,
//     copyright 2010-2026 three.js authors: https://threejs.org/license */' \
//     --outfile=three.min.js

export {
  BoxGeometry, BufferAttribute, BufferGeometry, CanvasTexture,
  CapsuleGeometry, Color, CylinderGeometry, DirectionalLight, Fog, Group,
  HemisphereLight, Mesh, MeshStandardMaterial, PCFShadowMap, PerspectiveCamera,
  PlaneGeometry, Quaternion, RepeatWrapping, SRGBColorSpace, Scene,
  SphereGeometry, Vector3, WebGLRenderer,
} from 'three';
export {OrbitControls} from 'three/addons/controls/OrbitControls.js';
